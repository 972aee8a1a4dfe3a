"""A docket that is split into partitions is one docket to whoever uses it: on a single server, and over a cluster."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from chaos.fleets import RedisCluster, ask
from docket import Agenda, Docket, ExecutionState, Perpetual, Progress, Retry, Worker
from docket import sync as blocking
from docket.cli.program import app
from docket.dependencies import ConcurrencyLimit
from docket.errors import DeadLetter, ExecutionCancelled, PartitionsDiffer
from docket.execution import Disposition
from docket.store.keys import kind_of, name_behind, partition_of, place_of
from docket.testing import advance
from tests.redis_server import RedisServer
from tests.runtime.support import NO_TIME, SHORT, Gate, running, soon, until, work_off

pytestmark = pytest.mark.usefixtures("redis_server")
"""So that whatever is left in it is found."""

WITHIN = timedelta(seconds=20)
PARTITIONS = 3


async def double(number: int) -> int:
    return number * 2


def double_in_a_thread(number: int) -> int:
    return number * 2


@pytest.fixture(params=["single", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "cluster":
        cluster: RedisCluster = request.getfixturevalue("cluster")
        return cluster.url
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url


@pytest.fixture
async def docket(url: str, docket_name: str) -> AsyncIterator[Docket]:
    async with Docket(name=docket_name, url=url, partitions=PARTITIONS) as docket:
        yield docket


def keys_in(partition: int, count: int = 1, partitions: int = PARTITIONS) -> list[str]:
    """Keys that belong there."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        if place_of(f"key-{number}", partitions) == partition:
            found.append(f"key-{number}")
        number += 1
    return found


EVERYWHERE = [key for partition in range(PARTITIONS) for key in keys_in(partition, 3)]


async def test_the_keys_of_a_docket_lie_on_every_node(cluster: RedisCluster, docket_name: str):
    async with Docket(name=docket_name, url=cluster.url, partitions=PARTITIONS) as docket:
        await docket.add_many([docket.call(double, key=f"k{number}")(number) for number in range(300)])
        on_each = [len(ask(node, "KEYS", f"*{docket_name}*:runs:*")) for node in cluster.masters]
        assert sum(on_each) == 300
        assert min(on_each) > 60
        await work_off(docket)


@pytest.mark.parametrize("partitions", [2, 3, 4, 6, 16])
@pytest.mark.parametrize("name", ["shop", "a}b", "{x}", "shop:runs", "ünïcode", "{", "a:partition"])
def test_partitions_lie_in_slots_of_their_own_and_their_keys_are_told_from_all_others(
    name: str, partitions: int
):
    from redis.crc import key_slot

    parts = [partition_of(name, number, partitions) for number in range(partitions)]
    slots = [key_slot(keys.stream.encode()) for keys in parts]
    assert [slot * partitions // 16384 for slot in slots] == list(range(partitions))
    for keys, slot in zip(parts, slots, strict=True):
        assert {key_slot(each.encode()) for each in (keys.runs("a}{k"), keys.queue, keys.signals)} == {slot}
        assert name_behind(keys.prefix) == name
        # Neither a docket of that name nor one on a cluster has keys that begin like this.
        others = [Docket(name=each).keys.prefix for each in (keys.prefix, keys.prefix.partition(":")[0])]
        clustered = Docket(name=keys.prefix[1:].partition("}")[0] or "x", url="redis+cluster://a").keys
        assert keys.prefix not in [*others, clustered.prefix]
    assert kind_of(parts[0].runs("k")) == "hash" or ":runs" in name


def test_where_a_key_lies_never_changes():
    """It was written down by earlier versions."""
    assert [place_of(key, 3) for key in ("a", "b", "order-17", "ключ", "\udcff")] == [0, 2, 2, 0, 0]


async def test_a_key_is_scheduled_once_whoever_adds_it(docket: Docket, url: str, docket_name: str):
    for key in EVERYWHERE:
        await docket.add(double, key=key)(1)
    async with Docket(name=docket_name, url=url, partitions=PARTITIONS) as other:
        again = await other.add_many([other.call(double, key=key)(2) for key in EVERYWHERE])
        assert {each.disposition for each in again} == {Disposition.ALREADY_SCHEDULED}
        assert (await other.snapshot()).total_tasks == len(EVERYWHERE)
        await other.replace(double, None, EVERYWHERE[0])(21)
    await work_off(docket)
    results = [await (await found(docket, key)).get_result(timeout=WITHIN) for key in EVERYWHERE]
    assert results == [42] + [2] * (len(EVERYWHERE) - 1)


async def found(docket: Docket, key: str) -> Any:
    execution = await docket.get_execution(key)
    assert execution is not None
    return execution


async def test_runs_of_one_key_never_overlap_and_follow_each_other(docket: Docket):
    log: list[tuple[str, int]] = []
    inside: Counter[str] = Counter()

    async def note(key: str, number: int, retry: Retry = Retry(attempts=2)) -> None:
        inside[key] += 1
        assert inside[key] == 1
        await asyncio.sleep(0.002)
        inside[key] -= 1
        log.append((key, number))
        if number < 4:
            await docket.add(note, key=key)(key, number + 1)

    for key in EVERYWHERE:
        await docket.add(note, key=key)(key, 0)
    async with running(docket, concurrency=4), running(docket, concurrency=4):
        await until(lambda: len(log) == 5 * len(EVERYWHERE), 15)
    for key in EVERYWHERE:
        assert [number for each, number in log if each == key] == list(range(5))
    await work_off(docket)


async def test_results_events_progress_and_threads_work_in_each_partition(docket: Docket):
    async def reports(number: int, progress: Progress = Progress()) -> int:
        await progress.set_total(10)
        await progress.increment(number)
        return number

    async with running(docket, concurrency=2):
        for partition in range(PARTITIONS):
            key = keys_in(partition)[0]
            execution = await docket.add(reports, key=key, when=soon(seconds=0.2))(partition + 1)
            events = [event async for event in execution.subscribe()]
            assert events[-1]["type"] == "state" and events[-1]["state"] is ExecutionState.COMPLETED
            assert any(event["type"] == "progress" and event["current"] == partition + 1 for event in events)
            assert await execution.get_result(timeout=WITHIN) == partition + 1
            in_thread = await docket.add(double_in_a_thread, key=f"{key}-thread")(4)
            assert await in_thread.get_result(timeout=WITHIN) == 8


async def test_what_is_asked_about_the_docket_is_about_all_partitions(docket: Docket):
    async def breaks() -> None: ...

    parked = [key for number in range(PARTITIONS) for key in keys_in(number, 2)]
    for at, key in enumerate(parked):
        await docket.add(double, key=key, when=soon(hours=1 + at))(1)
    snapshot = await docket.snapshot()
    assert [each.key for each in snapshot.future] == parked  # by due time, wherever they lie
    assert (await docket.why(parked[-1])).state == "scheduled"
    await docket.cancel(parked[0])
    assert await advance(docket, timedelta(hours=1)) == len(parked) - 1
    assert await docket.clear() == len(parked) - 1
    assert (await docket.snapshot()).total_tasks == 0
    for key in parked:
        await docket.add("unknown", key=key)()
    async with running(docket):
        async with asyncio.timeout(10):
            while len(await docket.dead_letters()) < len(parked):
                await asyncio.sleep(0.01)
        (worker,) = await docket.workers()
        assert worker.partitions == {0, 1, 2}
        assert [each.name for each in await docket.task_workers("trace")] == [worker.name]
    assert {each.key for each in (await docket.snapshot()).dead} == set(parked)
    docket.register(breaks, names=["unknown"])
    assert await docket.retry_dead(parked[1])
    assert await docket.purge_dead([]) == 0
    assert await docket.purge_dead(parked[2:4]) == 2
    assert await docket.purge_dead() == len(parked) - 3
    await work_off(docket)


async def test_an_agenda_is_scattered_over_all_partitions(docket: Docket):
    agenda = Agenda()
    for key in EVERYWHERE:
        agenda.add(double, key=key)(1)
    agenda.add("trace", key="named")("x")
    async with running(docket):
        executions = await agenda.scatter(docket, over=timedelta(milliseconds=200))
        assert [each.key for each in executions] == [*EVERYWHERE, "named"]
        for each in executions:
            await each.get_result(timeout=WITHIN)
    agenda.add("nobody knows it")()
    with pytest.raises(KeyError):
        await agenda.scatter(docket, over=timedelta(milliseconds=200))
    await work_off(docket)


async def test_a_strike_holds_in_all_partitions_when_it_returns(docket: Docket, url: str, docket_name: str):
    async with Docket(name=docket_name, url=url, partitions=PARTITIONS) as other:
        waiting = [await docket.add(double, key=key)(1) for key in EVERYWHERE]
        await other.strike(double, "number", "==", 1)
        assert [str(rule) for rule in other.strike_list] == ["double number == 1"]
        refused = await docket.add_many([docket.call(double)(1) for _ in range(30)])
        assert {each.disposition for each in refused} == {Disposition.STRUCK}
        await docket.wait_for_strikes_loaded()
        assert len(docket.strike_list) == 1
        async with running(docket):
            for each in waiting:
                with pytest.raises(ExecutionCancelled, match="struck"):
                    await each.get_result(timeout=WITHIN)
            await other.strike(double, hold=True)
            held = [await docket.add(double, key=f"{key}-held")(2) for key in EVERYWHERE]
            assert await other.restore(double, "number", "==", 1)
            assert await other.restore(double)
            assert not await other.restore(double)
            assert [await each.get_result(timeout=WITHIN) for each in held] == [4] * len(held)


def test_a_blocking_docket_sees_the_same(url: str, docket_name: str):
    with blocking.Docket(name=docket_name, url=url, partitions=PARTITIONS) as docket:
        executions = docket.add_many([docket.call(double, key=key)(7) for key in EVERYWHERE])
        assert [each.key for each in executions] == EVERYWHERE
        assert docket.snapshot().total_tasks == len(EVERYWHERE)
        docket.strike("other")
        assert docket.restore("other")
        asyncio.run(_work_off(docket_name, url))
        assert {each.get_result(timeout=WITHIN) for each in executions} == {14}
        assert next(iter(executions[-1].subscribe()))["type"] == "state"
        assert docket.clear() == 0


async def _work_off(name: str, url: str) -> None:
    async with Docket(name=name, url=url, partitions=PARTITIONS) as docket:
        docket.register(double)
        await work_off(docket)


async def test_a_docket_is_split_once_and_for_all(docket: Docket, url: str, docket_name: str):
    await docket.add(double, key="k")(1)
    for partitions in (1, 2):
        async with Docket(name=docket_name, url=url, partitions=partitions) as other:
            said = rf"is split into 3 partitions in Redis, and was opened with partitions={partitions}"
            asked: list[Any] = [
                other.add(double)(1),
                other.add_many([other.call(double)(1)]),
                other.get_execution("k"),
                other.cancel("k"),
                other.snapshot(),
                other.strike(double),
                other.clear(),
                other.why("k"),
                other.workers(),
                other.dead_letters(),
                work_off(other),
            ]
            for each in asked:
                with pytest.raises(PartitionsDiffer, match=said):
                    await each
    with (
        blocking.Docket(name=docket_name, url=url, partitions=4) as behind,
        pytest.raises(PartitionsDiffer, match="3 partitions"),
    ):
        behind.add(double)(1)
    assert (await docket.snapshot()).total_tasks == 1
    await work_off(docket)


async def test_a_docket_that_was_used_undivided_stays_so(url: str, docket_name: str):
    async with Docket(name=docket_name, url=url) as whole:
        await whole.add(double)(1)
        await work_off(whole)
        async with Docket(name=docket_name, url=url, partitions=2) as other:
            with pytest.raises(PartitionsDiffer, match=r"is not split \(1 partition\).*partitions=2"):
                await other.add(double)(1)
            with pytest.raises(PartitionsDiffer):
                await work_off(other)


async def test_limits_are_refused(docket: Docket, url: str, docket_name: str):
    async def limited(
        number: int, limit: ConcurrencyLimit = ConcurrencyLimit("number", max_concurrent=1)
    ) -> None: ...

    for refused in (
        lambda: docket.register(limited),
        lambda: docket.add(limited),
        lambda: Worker(docket, dependencies=[ConcurrencyLimit(max_concurrent=1)]),
        lambda: blocking.Docket(docket_name, url, partitions=2).add(limited),
    ):
        with pytest.raises(ValueError, match="expected no limits on a docket that is split"):
            refused()
    with pytest.raises(ValueError, match="expected no limits"):
        await docket.set_limit("limited", 3)
    assert await docket.limits() == []


@pytest.mark.parametrize("partitions", [0, -1, 65])
def test_numbers_that_make_no_sense_are_refused(partitions: int):
    with pytest.raises(ValueError, match=f"expected partitions to be between 1 and 64, got {partitions}"):
        Docket(partitions=partitions)


@pytest.mark.parametrize("served", [[], [3], [-1], [0, 7]])
def test_partitions_that_are_not_there_cannot_be_served(served: list[int]):
    with pytest.raises(ValueError, match="expected the partitions to serve to be among 0 to 2"):
        Worker(Docket(partitions=3), partitions=served)


# --- workers ---------------------------------------------------------------------------------------------------------


async def test_a_worker_serves_those_partitions_that_it_was_given(docket: Docket):
    ran: list[str] = []

    async def note(key: str) -> None:
        ran.append(key)

    await docket.add_many([docket.call(note, key=key)(key) for key in EVERYWHERE])
    async with Worker(docket, partitions=[2, 0], drain_timeout=NO_TIME) as worker:
        await asyncio.wait_for(worker.run_until_finished(), 10)
    assert {place_of(key, PARTITIONS) for key in ran} == {0, 2}
    left = (await docket.snapshot()).future
    assert {place_of(each.key, PARTITIONS) for each in left} == {1}
    async with running(docket, partitions=[1]), running(docket, partitions=[0]):
        await until(lambda: len(ran) == len(EVERYWHERE))
        assert sorted(sorted(each.partitions) for each in await docket.workers()) == [[0], [1]]


async def test_a_busy_partition_leaves_slots_to_the_others(docket: Docket):
    """Many wait in one; what comes to another is begun as soon as a slot is free, not after all of them."""
    ran: list[str] = []

    async def note(key: str) -> None:
        await asyncio.sleep(0.001)
        ran.append(key)

    crowd = [f"crowd-{number}" for number in range(4000) if place_of(f"crowd-{number}", PARTITIONS) == 0]
    await docket.add_many([docket.call(note, key=key)(key) for key in crowd])
    async with running(docket, concurrency=2):
        await until(lambda: len(ran) > 50)
        begun_at = len(ran)
        other = await docket.add(note, key=keys_in(1)[0])("other")
        await other.get_result(timeout=WITHIN)
        assert ran.index("other") < begun_at + 400 < len(crowd)
    await docket.clear()


async def test_partitions_share_the_slots_evenly_and_use_all_of_them(docket: Docket):
    gate = Gate()
    docket.register(gate, names=["gate"])
    for partition in range(PARTITIONS):
        await docket.add_many([docket.call("gate", key=key)() for key in keys_in(partition, 12)])
    async with running(docket, concurrency=9) as worker:
        await until(lambda: len(worker.claims) == 9)
        assert [len(desk.claims) for desk in worker.desks] == [3, 3, 3]
        gate.open.set()
        await until(lambda: gate.log.count("ended") == 36)
        gate.open.clear()
        # Alone, one partition has them all.
        more = [key for key in keys_in(1, 40) if key not in keys_in(1, 12)]
        await docket.add_many([docket.call("gate", key=key)() for key in more])
        await until(lambda: len(worker.desks[1].claims) == 9)
        gate.open.set()
        await until(lambda: gate.log.count("ended") == 36 + len(more))
    assert gate.most_inside == 9


async def test_one_slot_goes_round(docket: Docket):
    order: list[int] = []

    async def note(partition: int) -> None:
        order.append(partition)

    for partition in range(PARTITIONS):
        await docket.add_many([docket.call(note, key=key)(partition) for key in keys_in(partition, 20)])
    async with Worker(docket, concurrency=1, drain_timeout=NO_TIME) as worker:
        await asyncio.wait_for(worker.run_until_finished(), 15)
    assert Counter(order) == {0: 20, 1: 20, 2: 20}
    assert set(order[:9]) == {0, 1, 2}, order


async def test_work_that_wanders_between_partitions_is_waited_for(docket: Docket):
    reached: list[int] = []

    async def wander(step: int) -> None:
        reached.append(step)
        if step < 60:
            await docket.add(wander, key=f"step-{step}")(step + 1)

    await docket.add(wander, key="step")(0)
    await work_off(docket)
    assert reached == list(range(61))


async def test_a_perpetual_task_stays_in_its_partition(docket: Docket):
    ran: list[int] = []

    async def again(
        perpetual: Perpetual = Perpetual(every=timedelta(milliseconds=5), automatic=True),
    ) -> None:
        ran.append(1)

    docket.register(again)
    async with running(docket):
        await until(lambda: len(ran) > 5)
        assert await found(docket, "again")
    await docket.cancel("again")


async def test_what_runs_is_stopped_by_a_cancellation_wherever_it_lies(docket: Docket):
    gate = Gate()
    docket.register(gate, names=["gate"])
    async with running(docket, concurrency=PARTITIONS) as worker:
        executions = [await docket.add("gate", key=keys_in(number)[0])() for number in range(PARTITIONS)]
        await until(lambda: gate.inside == PARTITIONS)
        for each in executions:
            await docket.cancel(each.key)
        await until(lambda: not worker.claims)
        for each in executions:
            with pytest.raises(ExecutionCancelled):
                await each.get_result(timeout=WITHIN)


async def test_a_drain_gives_back_what_it_interrupts_in_every_partition(docket: Docket):
    gate = Gate()
    docket.register(gate, names=["gate"])
    keys = [keys_in(number)[0] for number in range(PARTITIONS)]
    async with running(docket, concurrency=PARTITIONS):
        await docket.add_many([docket.call("gate", key=key)() for key in keys])
        await until(lambda: gate.inside == PARTITIONS)
    snapshot = await docket.snapshot()
    assert {each.key for each in snapshot.future} == set(keys) and not snapshot.running
    assert not snapshot.workers
    gate.open.set()
    await work_off(docket)
    assert gate.log.count("began") == 2 * PARTITIONS


async def test_a_lease_that_lapses_in_one_partition_leaves_the_others_alone(docket: Docket):
    gate = Gate()
    docket.register(gate, names=["gate"])
    keys = [keys_in(number)[0] for number in range(PARTITIONS)]
    async with running(docket, concurrency=PARTITIONS, redelivery_timeout=SHORT) as worker:
        await docket.add_many([docket.call("gate", key=key)() for key in keys])
        await until(lambda: gate.inside == PARTITIONS)
        before = [desk.worker_id for desk in worker.desks]
        assert worker.worker_id.count(",") == PARTITIONS - 1
        desk = worker.desks[1]
        await desk.store.client.execute_command("ZREM", desk.keys.workers, desk.worker_id)
        await until(lambda: desk.worker_id != before[1], 10)
        assert [each.worker_id for each in worker.desks][::2] == before[::2]
        await until(lambda: gate.inside == PARTITIONS + 1 or gate.inside == PARTITIONS, 10)
        gate.open.set()
        for key in keys:
            await (await found(docket, key)).get_result(timeout=WITHIN)
    await work_off(docket)


async def test_a_node_that_is_away_keeps_nobody_from_working_in_the_others(
    own_cluster: RedisCluster, docket_name: str
):
    there = [keys_in(number, 20) for number in range(PARTITIONS)]
    async with (
        Docket(name=docket_name, url=own_cluster.url, partitions=PARTITIONS) as docket,
        running(docket, concurrency=2) as worker,
    ):
        for keys in there:
            first = await docket.add(double, key=keys.pop())(1)
            await first.get_result(timeout=WITHIN)
        own_cluster.masters[1].pause()
        try:
            for key in there[0] + there[2]:
                execution = await docket.add(double, key=key)(1)
                assert await execution.get_result(timeout=WITHIN) == 2
        finally:
            own_cluster.masters[1].resume()
        await until(lambda: not worker.hindrance, 30)
        back = await docket.add(double, key=there[1][0])(1)
        assert await back.get_result(timeout=WITHIN) == 2


# --- the command line ------------------------------------------------------------------------------------------------


def test_the_command_line_finds_out_by_itself_how_a_docket_is_split(url: str, docket_name: str):
    def asked(*arguments: str) -> Any:
        variables = {"DOCKET_NAME": docket_name, "DOCKET_URL": url}
        return CliRunner().invoke(app, arguments, env=variables, prog_name="docket")

    with blocking.Docket(name=docket_name, url=url, partitions=PARTITIONS) as docket:
        keys = [keys_in(number)[0] for number in range(PARTITIONS)]
        for key in keys:
            docket.add(double, key=key)(4)
        shown = asked("snapshot", "--json")
        assert shown.exit_code == 0 and all(key in shown.stdout for key in keys), shown
        for key in keys:
            assert key in asked("runs", "show", key).stdout
        told = asked("why", keys[0])
        assert told.exit_code == 0, told.output
        assert asked("cancel", keys[0]).exit_code == 0
        assert asked("strike", "double").exit_code == 0
        assert "double" in asked("strikes").stdout
        assert asked("restore", "double").exit_code == 0
        assert asked("tasks", "trace", "hello").exit_code == 0
        assert len(docket.snapshot().future) == PARTITIONS
        assert asked("clear").exit_code == 0
        assert asked("workers").exit_code == 0
        assert docket.snapshot().total_tasks == 0


def test_a_dead_letter_tells_its_cause_there(url: str, docket_name: str):
    with blocking.Docket(name=docket_name, url=url, partitions=PARTITIONS) as docket:
        execution = docket.add("nobody knows it", key=keys_in(2)[0])()
        asyncio.run(_work_off(docket_name, url))
        with pytest.raises(DeadLetter, match="knows the task"):
            execution.get_result(timeout=WITHIN)
        docket.purge_dead()
