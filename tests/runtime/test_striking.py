"""Strikes where the work is done: what is claimed, held, released, and what happens to it all when Redis goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from chaos.proxy import LossyProxy
from docket import Disposition, Docket, ExecutionCancelled, Retry, Worker
from docket import sync as blocking
from docket.store import scripts
from tests.redis_server import RedisServer
from tests.runtime.support import Gate, finish, running, soon, until, work_off

LIMIT = timedelta(seconds=8)


@pytest.fixture
async def other(docket_name: str, redis_url: str):
    """Somebody else's docket of the same name."""
    async with Docket(docket_name, redis_url) as docket:
        yield docket


class Notes:
    def __init__(self) -> None:
        self.ran: list[Any] = []

    async def __call__(self, what: Any = None) -> Any:
        self.ran.append(what)
        return what


@pytest.fixture
def notes(docket: Docket) -> Notes:
    notes = Notes()
    docket.register(notes, names=["note"])
    return notes


async def held(docket: Docket) -> list[str]:
    async with docket.redis() as redis:
        found: list[Any] = []
        async for key in redis.scan_iter(match=f"{docket.name}:held:*"):
            found += await redis.zrange(key, 0, -1)
    return sorted(key.decode() for key in found)


async def until_held(docket: Docket, *keys: str) -> None:
    async with asyncio.timeout(5):
        while await held(docket) != sorted(keys):
            await asyncio.sleep(0.005)


async def test_a_running_worker_and_a_client_heed_what_somebody_else_strikes_at_once(
    docket: Docket, other: Docket, notes: Notes
):
    """No time passes between the return of `strike` and its effect, on either."""
    async with running(docket):
        for number in range(20):
            assert await (await docket.add("note")(number)).get_result(timeout=LIMIT) == number
            await other.strike("note", "what", "==", number)
            await other.replace("note", None, "k")(number + 100)  # lets the worker go on
            assert (await docket.add("note")(what=number)).disposition is Disposition.STRUCK
            await other.restore("note", "what", "==", number)
    assert set(notes.ran) >= set(range(20))


async def test_what_is_claimed_after_a_strike_is_judged_by_it(docket: Docket, other: Docket, notes: Notes):
    gate = Gate()
    docket.register(gate, names=["gate"])
    async with running(docket, concurrency=1):
        await docket.add("gate")()
        await gate.has_begun()
        waiting = [await docket.add("note")(number) for number in range(5)]
        await other.strike("note")
        gate.open.set()
        for execution in waiting:
            with pytest.raises(ExecutionCancelled, match=r"^struck: note$"):
                await execution.get_result(timeout=LIMIT)
    assert notes.ran == []


async def test_what_runs_is_not_stopped(docket: Docket, other: Docket):
    gate = Gate()
    docket.register(gate, names=["gate"])
    async with running(docket):
        execution = await docket.add("gate")("x")
        await gate.has_begun()
        await other.strike("gate")
        gate.open.set()
        assert await execution.get_result(timeout=LIMIT) == "x"


async def test_a_retry_is_judged_like_any_other_turn(docket: Docket):
    attempts: list[int] = []

    async def failing(retry: Retry = Retry(attempts=5)) -> None:
        attempts.append(retry.attempt)
        await docket.strike(failing)
        raise ValueError

    execution = await docket.add(failing)()
    await work_off(docket)
    await execution.sync()
    assert (attempts, execution.state, execution.error) == ([1], "cancelled", "struck: failing")


async def test_a_task_struck_as_a_whole_is_not_even_loaded(docket: Docket, notes: Notes):
    loaded: list[int] = []

    class Trap:
        def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
            return loaded.append, (1,)

    await docket.add("note", key="k")(Trap())
    loaded.clear()
    await docket.strike("note")
    await work_off(docket)
    assert loaded == [] and notes.ran == []


async def test_a_sync_task_strikes_through_its_own_docket(docket: Docket):
    from docket import CurrentDocket

    def striking(client: blocking.Docket = CurrentDocket()) -> str:  # type: ignore[assignment]
        client.strike("note")
        return str(client.add("note")().disposition)

    execution = await docket.add(striking)()
    await work_off(docket)
    assert await execution.get_result() == "struck"
    assert len(docket.strike_list) == 1


async def test_a_task_that_adds_its_own_key_is_refused_its_successor(docket: Docket):
    dispositions: list[str] = []

    async def chain() -> None:
        await docket.strike(chain)
        dispositions.append((await docket.add(chain, key="chain")()).disposition)

    await docket.add(chain, key="chain")()
    await work_off(docket)
    assert dispositions == ["struck"]


# --- holding ---------------------------------------------------------------------------------------------------------


async def test_held_work_is_released_to_a_worker_that_waits(docket: Docket, other: Docket, notes: Notes):
    """Nothing is polled: the release is called out."""
    await other.strike("note", hold=True)
    async with running(docket) as worker:
        executions = [await docket.add("note", key=f"k{number}")(number) for number in range(5)]
        await until_held(docket, *(f"k{number}" for number in range(5)))
        assert notes.ran == []
        assert {each.state for each in (await docket.snapshot()).future} == {"queued"}
        await until(lambda: worker.exchange.reading)
        await other.restore("note")
        for number, execution in enumerate(executions):
            assert await execution.get_result(timeout=LIMIT) == number
    assert sorted(notes.ran) == list(range(5))
    assert await held(docket) == []


async def test_a_rule_releases_what_it_holds_and_nothing_else(docket: Docket, notes: Notes):
    await docket.strike("note", "what", "==", 1, hold=True)
    await docket.strike("note", "what", "==", 2, hold=True)
    await docket.add_many([docket.call("note", key=f"k{number}")(what=number) for number in (1, 2, 3)])
    await work_off(docket)
    assert await held(docket) == ["k1", "k2"]
    await docket.restore("note", "what", "==", 1)
    assert await held(docket) == ["k2"]
    await work_off(docket)
    assert notes.ran == [3, 1]
    await docket.cancel("k2")


async def test_what_is_released_while_another_rule_holds_it_is_held_by_that(docket: Docket, notes: Notes):
    await docket.strike("note", hold=True)
    await docket.strike(None, "what", "==", 1, hold=True)
    await docket.add("note", key="k")(what=1)
    await work_off(docket)
    await docket.restore("note")
    await work_off(docket)
    assert await held(docket) == ["k"] and notes.ran == []
    await docket.restore(None, "what", "==", 1)
    await work_off(docket)
    assert notes.ran == [1]


async def test_striking_for_good_what_was_held_cancels_it(docket: Docket, notes: Notes):
    await docket.strike("note", hold=True)
    execution = await docket.add("note", key="k")(1)
    await work_off(docket)
    await docket.strike("note")
    assert len(docket.strike_list) == 1
    await work_off(docket)
    with pytest.raises(ExecutionCancelled, match="struck: note"):
        await execution.get_result()


@pytest.mark.parametrize("released", [False, True])
async def test_held_work_can_be_cancelled_replaced_and_cleared(docket: Docket, notes: Notes, released: bool):
    await docket.strike("note", hold=True)
    for key in ("cancelled", "replaced", "cleared", "again"):
        await docket.add("note", key=key)(key)
    await work_off(docket)
    assert len(await held(docket)) == 4
    if released:
        await docket.restore("note")
    assert (await docket.add("note", key="again")("x")).disposition is Disposition.ALREADY_SCHEDULED
    await docket.cancel("cancelled")
    await docket.replace("note", soon(hours=1), "replaced")("new")
    assert {each.key for each in (await docket.snapshot()).future} == {"replaced", "cleared", "again"}
    assert await docket.clear() == 3
    assert (await docket.snapshot()).future == []
    await docket.restore("note")
    await work_off(docket)
    assert notes.ran == []


async def test_many_held_are_cleared_in_batches(docket: Docket, notes: Notes):
    await docket.strike("note", hold=True)
    await docket.add_many([docket.call("note")(number) for number in range(2500)])
    await work_off(docket, concurrency=500)
    assert len(await held(docket)) == 2500
    assert await docket.clear() == 2500
    assert (await docket.snapshot()).future == []


async def test_many_held_are_released_in_the_order_in_which_they_were_due(docket: Docket, notes: Notes):
    await docket.strike("note", hold=True)
    for batch in range(3):
        await docket.add_many([docket.call("note")(batch * 1000 + number) for number in range(1000)])
    await work_off(docket, concurrency=500)
    await docket.restore("note")
    await work_off(docket, 20, concurrency=1)
    assert sorted(notes.ran) == list(range(3000))
    assert [number // 1000 for number in notes.ran] == sorted(number // 1000 for number in notes.ran)


async def test_what_is_restored_while_a_worker_is_about_to_hold_it_goes_on(docket: Docket, notes: Notes):
    """The worker says "held" by a rule that is gone when it is settled: then it is put in line again."""
    await docket.strike("note", hold=True)
    await docket.add("note", key="k")(1)
    async with Worker(docket, drain_timeout=timedelta(0)) as worker:
        settle = worker.exchange.settle

        def restored_first(settlement: Any) -> None:
            async def restore_and_settle() -> None:
                await docket.restore("note")
                settle(settlement)

            task = asyncio.ensure_future(restore_and_settle())
            tasks.append(task)

        tasks: list[asyncio.Future[None]] = []
        assemble = worker._assemble

        def assembled() -> None:
            nonlocal settle
            assemble()
            settle = worker.exchange.settle
            worker.exchange.settle = restored_first  # type: ignore[method-assign]

        worker._assemble = assembled  # type: ignore[method-assign]
        run = asyncio.create_task(worker.run_forever())
        await until(lambda: notes.ran == [1])
        run.cancel()
        await asyncio.gather(run, *tasks, return_exceptions=True)
    assert await held(docket) == []


# --- the ledger of rules ---------------------------------------------------------------------------------------------


async def log_of(docket: Docket) -> int:
    async with docket.redis() as redis:
        return await redis.xlen(docket.keys.strikes)


async def test_the_log_is_as_long_as_there_are_rules(docket: Docket, other: Docket):
    for number in range(100):
        await docket.strike("note", "what", "==", number % 3)
        await other.strike("note", "what", "==", number % 3, hold=True)
        await other.restore("note", "what", "==", number % 3)
    assert await log_of(docket) == 0
    for _ in range(5):
        await docket.strike("note")
    assert await log_of(docket) == 1


async def test_rules_struck_and_restored_by_many_at_once_agree_in_the_end(docket: Docket, other: Docket):
    async def storm(client: Docket, first: int) -> None:
        for number in range(first, first + 20):
            await client.strike("note", "what", "==", number)
            if number % 2:
                await client.restore("note", "what", "==", number)

    await asyncio.gather(*(storm(client, start) for client in (docket, other) for start in (0, 20, 40)))
    await docket.wait_for_strikes_loaded()
    await other.wait_for_strikes_loaded()
    assert sorted(rule.value for rule in docket.strike_list) == list(range(0, 60, 2))
    assert list(map(str, docket.strike_list)) == list(map(str, other.strike_list))


async def test_adding_costs_no_round_trip_more_when_no_rule_has_changed(docket: Docket, other: Docket):
    asked: list[str] = []
    ask = docket.store.ask

    async def counted(request: Any) -> Any:
        asked.append(request.script.name)
        return await ask(request)

    docket.store.ask = counted  # type: ignore[method-assign]
    await docket.add("note")(1)
    await docket.add("note")(2)
    assert asked == ["schedule"] * 2
    await other.strike("note", "what", "==", 1)
    for number in range(3):
        await docket.add("note")(what=number + 10)
    assert asked == ["schedule"] * 2 + ["schedule", "strikes", "schedule"] + ["schedule"] * 2
    await docket.clear()


async def test_rules_survive_a_restart_and_a_flush_lifts_them(own_redis: RedisServer):
    async with Docket("strikes", own_redis.url) as docket, Docket("strikes", own_redis.url) as other:
        notes = Notes()
        docket.register(notes, names=["note"])
        async with running(docket) as worker:
            await other.strike("note")
            assert (await docket.add("note")(1)).disposition is Disposition.STRUCK
            await until(lambda: worker.exchange.reading)
            await asyncio.to_thread(own_redis.stop)
            await asyncio.to_thread(own_redis.start)
            assert (await docket.add("note")(2)).disposition is Disposition.STRUCK
            assert await other.restore("note") is True
            assert await (await docket.add("note")(3)).get_result(timeout=LIMIT) == 3
            await other.strike("note")
            async with other.redis() as redis:
                await redis.flushall()
            assert await (await docket.add("note")(4)).get_result(timeout=LIMIT) == 4
    assert notes.ran == [3, 4]


async def test_a_worker_that_was_away_judges_by_the_rules_of_its_return(
    own_redis: RedisServer, tmp_path: Any
):
    """Its connections broke; meanwhile somebody struck and added by other rules."""
    async with (
        LossyProxy(tmp_path, own_redis.socket_path) as proxy,
        Docket("strikes", proxy.url) as docket,
        Docket("strikes", own_redis.url) as other,
    ):
        notes = Notes()
        docket.register(notes, names=["note"])
        async with running(docket) as worker:
            await until(lambda: worker.exchange.reading)
            execution = await other.add("note", when=soon(milliseconds=300))(1)
            proxy.drop_all()
            await other.strike("note")
            with pytest.raises(ExecutionCancelled, match="struck: note"):
                await execution.get_result(timeout=LIMIT)
    assert notes.ran == []


async def test_a_strike_and_a_restore_whose_replies_are_lost_take_place_once(
    own_redis: RedisServer, tmp_path: Any
):
    async with (
        LossyProxy(tmp_path, own_redis.socket_path) as proxy,
        Docket("strikes", proxy.url) as docket,
    ):
        proxy.lose(scripts.STRIKE)
        await docket.strike("note")
        assert proxy.lost == 1 and await log_of(docket) == 1
        proxy.lose(scripts.STRIKE)
        assert await docket.restore("note") is True
        assert proxy.lost == 2 and await log_of(docket) == 0


async def test_nonsense_in_the_log_stops_nobody(
    docket: Docket, notes: Notes, caplog: pytest.LogCaptureFixture
):
    async with docket.redis() as redis:
        await redis.xadd(docket.keys.strikes, {"operator": "~", "function": "note"})
        await redis.xadd(docket.keys.strikes, {"foo": "bar"})
        fields: Any = {"operator": "==", "function": "note", "parameter": "what", "value": "garbage"}
        await redis.xadd(docket.keys.strikes, fields)
    execution = await docket.add("note")(1)
    await work_off(docket)
    assert await execution.get_result() == 1
    assert "is no rule" in caplog.text and "its value cannot be loaded" in caplog.text


async def test_a_held_execution_without_result_leaves_nothing_behind(docket_name: str, redis_url: str):
    async with Docket(docket_name, redis_url, execution_ttl=timedelta(0)) as docket:
        notes = Notes()
        docket.register(notes, names=["note"])
        await docket.strike("note", hold=True)
        await docket.add("note", key="k")(1)
        await work_off(docket)
        assert await held(docket) == ["k"]
        await docket.restore("note")
        await work_off(docket)
        assert notes.ran == [1] and await docket.get_execution("k") is None


async def test_a_value_that_cannot_be_pickled_is_refused(docket: Docket):
    class Stubborn:
        def __reduce__(self) -> Any:
            raise RuntimeError("no")

    with pytest.raises(TypeError, match="cannot pickle the value of the strike note what == "):
        await docket.strike("note", "what", "==", Stubborn())
    assert await log_of(docket) == 0


async def test_a_worker_that_is_to_finish_does_not_wait_for_what_is_held(docket: Docket, notes: Notes):
    await docket.strike("note", hold=True)
    await docket.add("note", key="k", when=soon(milliseconds=100))(1)
    async with Worker(docket) as worker:
        await finish(worker, 5)
        assert await held(docket) == ["k"]
        await docket.restore("note")
        await finish(worker, 5)
    assert notes.ran == [1]
