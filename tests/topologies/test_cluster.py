"""On a real cluster a docket lives on one node, follows its slot, and outlives that node's master."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from redis.crc import key_slot
from typer.testing import CliRunner

from chaos.fleets import RedisCluster, ask, free_port, wait_until
from docket import ConnectionFailed, Docket, Progress
from docket import sync as blocking
from docket.cli.program import app
from docket.dependencies import ConcurrencyLimit, Perpetual
from docket.store.ledgers import open_ledger
from tests.redis_server import RedisServer
from tests.runtime.support import running, until, work_off

WITHIN = timedelta(seconds=20)


async def double(number: int) -> int:
    return number * 2


@pytest.fixture(params=[0, 1, 2], ids=["first", "second", "third"])
def name(request: pytest.FixtureRequest, cluster: RedisCluster, docket_name: str) -> str:
    """Of a docket on each of the nodes."""
    return cluster.name_on(cluster.masters[request.param], docket_name)


@pytest.fixture
async def docket(cluster: RedisCluster, name: str) -> AsyncIterator[Docket]:
    async with Docket(name=name, url=cluster.url) as docket:
        yield docket


async def test_tasks_run_and_tell_their_results_wherever_the_docket_lives(docket: Docket):
    async with running(docket, concurrency=3):
        first = await docket.add(double)(1)
        assert await first.get_result(timeout=WITHIN) == 2
        # The worker's idle reader is blocked by now, on the same node.
        later = [await docket.add(double)(number) for number in range(20)]
        assert [await each.get_result(timeout=WITHIN) for each in later] == [2 * n for n in range(20)]


async def test_events_and_signals_come_through(docket: Docket):
    began = asyncio.Event()

    async def hold(progress: Progress = Progress()) -> None:
        await progress.set_total(3)
        began.set()
        await asyncio.Event().wait()

    async with running(docket):
        execution = await docket.add(hold)()
        states: list[str] = []

        async def follow() -> None:
            async for event in execution.subscribe():
                if event["type"] == "state":
                    states.append(event["state"])

        following = asyncio.create_task(follow())
        await asyncio.wait_for(began.wait(), 10)
        await docket.cancel(execution.key)
        await asyncio.wait_for(following, 10)
    assert states[-1] == "cancelled"


async def test_all_that_a_docket_writes_lies_in_one_slot(docket: Docket, cluster: RedisCluster):
    async def limited(
        number: int,
        limit: ConcurrencyLimit = ConcurrencyLimit("number", max_concurrent=1),
        progress: Progress = Progress(),
    ) -> None:
        await progress.set_total(number)
        if number == 3:
            raise ValueError("on purpose")

    async def always(perpetual: Perpetual = Perpetual(every=timedelta(hours=1))) -> None: ...

    for number in [1, 1, 2, 3]:
        await docket.add(limited)(number)
    await docket.strike(double, "number", "==", 5)
    await docket.add(double)(5)
    docket.register(always)
    async with running(docket) as worker:
        every = [await docket.add(double)(number) for number in range(3)]
        for each in every:
            await each.get_result(timeout=WITHIN)
        assert worker.name
    slots: set[int] = set()
    for node in cluster.masters:
        for key in ask(node, "KEYS", f"*{docket.name}*"):
            slots.add(key_slot(key))
            assert key.startswith(f"{{{docket.name}}}:".encode())
    assert len(slots) == 1


async def test_the_plain_client_finds_every_key_of_the_cluster(docket: Docket):
    async with docket.redis() as client:
        for key in ("one", "two", "three", "four"):
            await client.set(key, "x", ex=60)
            assert await client.get(key) == b"x"


def test_code_without_a_loop_works_too(cluster: RedisCluster, name: str):
    with blocking.Docket(name=name, url=cluster.url) as docket:
        execution = docket.add(double)(4)
        asyncio.run(_work_off(name, cluster.url))
        assert execution.get_result(timeout=WITHIN) == 8
        with docket.redis() as client:
            for key in ("one", "two", "three", "four"):
                client.set(key, "x", ex=60)
                assert client.get(key) == b"x"


async def _work_off(name: str, url: str) -> None:
    async with Docket(name=name, url=url) as docket:
        docket.register(double)
        await work_off(docket)


async def test_the_steward_keeps_its_ledger_there(docket: Docket):
    async with open_ledger(docket.settings) as ledger:
        await docket.add(double)(1)
        assert (await ledger.figures()).due == 1
        await docket.clear()


def test_the_command_line_works_there(cluster: RedisCluster, name: str):
    variables = {"DOCKET_NAME": name, "DOCKET_URL": cluster.url}

    def asked(*arguments: str, **more: str) -> Any:
        return CliRunner().invoke(app, arguments, env={**variables, **more}, prog_name="docket")

    with blocking.Docket(name=name, url=cluster.url) as docket:
        execution = docket.add(double, key="k")(4)
        assert "k" in asked("runs", "show", "k").stdout
        asyncio.run(_work_off(name, cluster.url))
        watched = asked("watch", "k")
        assert (watched.exit_code, "COMPLETED" in watched.stdout) == (0, True), watched
        execution.sync()
    assert asked("snapshot").exit_code == 0
    assert asked("workers").exit_code == 0
    # Its neighbours are found on whichever node they lie.
    mistyped = asked("runs", "show", "k", DOCKET_NAME=f"{name}x")
    assert f"did you mean '{name}'" in mistyped.stderr, mistyped


async def test_nodes_that_are_gone_are_passed_over(cluster: RedisCluster, docket_name: str):
    url = cluster.url.replace("://", f"://127.0.0.1:{free_port()},")
    async with Docket(name=docket_name, url=url) as docket:
        execution = await docket.add(double)(1)
        await work_off(docket)
        assert await execution.get_result(timeout=WITHIN) == 2


async def test_a_server_that_is_no_cluster_is_told_apart(short_folder: Any, docket_name: str):
    server = RedisServer(short_folder, port=free_port())
    server.start()
    try:
        async with Docket(name=docket_name, url=f"redis+cluster://127.0.0.1:{server.port}") as docket:
            with pytest.raises(ConnectionFailed, match="cluster support disabled"):
                await docket.add(double)(1)
    finally:
        server.stop()


class Move:
    """The slot of a docket on its way from one node to another, as `redis-cli --cluster reshard` does it."""

    def __init__(self, cluster: RedisCluster, name: str) -> None:
        self.cluster, self.slot = cluster, key_slot(f"{{{name}}}".encode())
        self.source = cluster.owner_of(name)
        self.target = next(node for node in cluster.masters if node is not self.source)

    def begin(self) -> None:
        ask(self.target, "CLUSTER", "SETSLOT", self.slot, "IMPORTING", self.cluster.id_of(self.source))
        ask(self.source, "CLUSTER", "SETSLOT", self.slot, "MIGRATING", self.cluster.id_of(self.target))

    def end(self) -> None:
        while keys := ask(self.source, "CLUSTER", "GETKEYSINSLOT", self.slot, 10):
            ask(self.source, "MIGRATE", "127.0.0.1", self.target.port, "", 0, 5000, "KEYS", *keys)
        for node in (self.target, self.source, *self.cluster.masters):
            ask(node, "CLUSTER", "SETSLOT", self.slot, "NODE", self.cluster.id_of(self.target))


async def test_a_docket_follows_its_slot_and_runs_everything_once(cluster: RedisCluster, docket_name: str):
    runs: Counter[int] = Counter()

    async def count(number: int) -> None:
        await asyncio.sleep(0.01)
        runs[number] += 1

    move = Move(cluster, docket_name)
    async with Docket(name=docket_name, url=cluster.url) as docket:
        await docket.add_many([docket.call(count)(number) for number in range(400)])
        async with running(docket, concurrency=5) as worker:
            await until(lambda: len(runs) > 20)
            await asyncio.to_thread(move.begin)
            await until(lambda: "Redis is away" in worker.hindrance)
            stood_at = len(runs)
            assert stood_at < 400
            await asyncio.to_thread(move.end)
            await until(lambda: len(runs) == 400, within=20)
        await work_off(docket)
        assert set(runs.values()) == {1}
        assert cluster.owner_of(docket_name) is move.target


async def test_while_the_slot_is_on_its_way_nothing_is_done_by_halves(
    cluster: RedisCluster, docket_name: str
):
    move = Move(cluster, docket_name)
    async with Docket(name=docket_name, url=cluster.url) as docket:
        await docket.add(double, key="before")(1)
        move.begin()
        before = {
            key: ask(move.source, "DUMP", key) for key in ask(move.source, "KEYS", f"{{{docket_name}}}*")
        }
        with pytest.raises(ConnectionFailed):
            await docket.add(double, key="meanwhile")(1)
        with pytest.raises(ConnectionFailed):
            await docket.cancel("before")
        after = {
            key: ask(move.source, "DUMP", key) for key in ask(move.source, "KEYS", f"{{{docket_name}}}*")
        }
        assert after == before
        move.end()
        assert await docket.get_execution("meanwhile") is None
        await docket.add(double, key="meanwhile")(1)
        await work_off(docket)


async def test_work_goes_on_after_the_failover_of_its_node(own_cluster: RedisCluster, docket_name: str):
    master, (replica,) = own_cluster.masters[0], own_cluster.replicas
    name = own_cluster.name_on(master, docket_name)
    ran: Counter[int] = Counter()

    async def count(number: int) -> int:
        ran[number] += 1
        await asyncio.sleep(0.02)
        return number

    async with Docket(name=name, url=own_cluster.url) as docket:
        executions = await docket.add_many([docket.call(count)(number) for number in range(100)])
        wait_until(lambda: ask(master, "WAIT", 1, 1000) == 1, "replicated")
        async with running(docket, concurrency=5) as worker:
            await until(lambda: len(ran) > 10)
            master.kill()
            await until(lambda: len(ran) == 100 and not worker.hindrance, within=30)
            results = [await each.get_result(timeout=WITHIN) for each in executions]
            assert results == list(range(100))
            # What was in flight runs again, and what was settled just before but is not on the replica.
            assert sum(ran.values()) <= 100 + 20
        await finish_all(docket)
    assert own_cluster.owner_of(name, seen_by=own_cluster.masters[1]) is replica


async def finish_all(docket: Docket) -> None:
    async with running(docket) as worker:
        assert worker.name
    await work_off(docket)


async def test_threads_find_the_new_master_too(own_cluster: RedisCluster, docket_name: str):
    master = own_cluster.masters[0]
    name = own_cluster.name_on(master, docket_name)
    with blocking.Docket(name=name, url=own_cluster.url) as docket:
        docket.add(double, key="k")(4)
        wait_until(lambda: ask(master, "WAIT", 1, 1000) == 1, "replicated")
        master.kill()
        with pytest.raises(ConnectionFailed):
            docket.get_execution("k")
        wait_until(lambda: _is_there(docket), "the replica has taken over")


def _is_there(docket: blocking.Docket) -> bool:
    try:
        return docket.get_execution("k") is not None
    except ConnectionFailed:
        return False
