"""What running means: until finished, for ever, at most; few connections; nothing that grows."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import pytest

from docket import CurrentDocket, Docket, Execution, Retry, TaskKey, Worker
from docket import sync as blocking
from docket_runtime.surroundings import Surroundings
from tests.cli.conftest import variables
from tests.runtime.support import NO_TIME, Gate, SyncGate, Watched, finish, running, soon, until, work_off

LIMIT = timedelta(seconds=5)


class Weighty:
    """Counts how many of its kind are alive."""

    alive = 0

    def __init__(self) -> None:
        Weighty.alive += 1

    def __del__(self) -> None:
        Weighty.alive -= 1

    def __reduce__(self) -> tuple[type[Weighty], tuple[()]]:
        return (Weighty, ())


async def clients(docket: Docket) -> int:
    async with docket.redis() as redis:
        listed: Any = await redis.execute_command("CLIENT", "LIST")
    return len(listed.splitlines())


@pytest.mark.measured
async def test_an_empty_docket_is_finished_within_a_tenth_of_a_second(docket: Docket):
    async with Worker(docket) as worker:
        await finish(worker)
        began = time.monotonic()
        await finish(worker)
        assert time.monotonic() - began < 0.1


async def test_finished_includes_what_is_parked_and_what_others_run(docket: Docket):
    gate = Gate()
    ran: list[str] = []

    async def note(what: str) -> None:
        ran.append(what)

    docket.register(gate, names=["gate"])
    async with running(docket, concurrency=1):
        await docket.add("gate")("elsewhere")
        await gate.has_begun()
        await docket.add(note, when=soon(milliseconds=150))("parked")
        async with Worker(docket) as worker:
            task = asyncio.create_task(worker.run_until_finished())
            await until(lambda: ran == ["parked"])
            await asyncio.sleep(0.15)
            assert not task.done()
            gate.open.set()
            await asyncio.wait_for(task, 2)


async def test_finished_includes_what_tasks_add_and_retry(docket: Docket):
    ran: list[str] = []

    async def child(retry: Retry = Retry(attempts=3, delay=timedelta(milliseconds=20))) -> None:
        ran.append(f"child {retry.attempt}")
        if retry.attempt < 3:
            raise ValueError("again")

    async def parent(client: Docket = CurrentDocket()) -> None:
        ran.append("parent")
        await client.add(child, when=soon(milliseconds=20))()

    await docket.add(parent)()
    await work_off(docket)
    assert ran == ["parent", "child 1", "child 2", "child 3"]


async def test_a_worker_runs_again_and_again(docket: Docket):
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    def note_sync(number: int) -> None:
        ran.append(number)

    async with Worker(docket) as worker:
        for number in range(0, 10, 2):
            await docket.add(note)(number)
            await docket.add(note_sync)(number + 1)
            await finish(worker)
    assert sorted(ran) == list(range(10))


async def test_a_worker_can_be_entered_again(docket: Docket):
    ran: list[int] = []

    def note(number: int) -> None:
        ran.append(number)

    worker = Worker(docket, drain_timeout=NO_TIME)
    for number in range(3):
        await docket.add(note)(number)
        async with worker:
            await finish(worker, 3)
    assert ran == [0, 1, 2]


async def test_entering_twice_or_running_unopened_is_refused(docket: Docket):
    async with Worker(docket, name="w") as worker:
        with pytest.raises(RuntimeError, match="'w' is open already"):
            await worker.__aenter__()
    with pytest.raises(RuntimeError, match="not open"):
        await worker.run_until_finished()


async def test_a_worker_on_a_docket_that_is_not_open_is_refused(docket_name: str, redis_url: str):
    with pytest.raises(RuntimeError, match="not open"):
        async with Worker(Docket(docket_name, redis_url)):
            pass


async def test_two_runs_of_one_worker_at_once_are_refused(docket: Docket):
    async with running(docket) as worker:
        with pytest.raises(RuntimeError):
            await asyncio.wait_for(worker.run_until_finished(), 2)


class AtWork(NamedTuple):
    run: asyncio.Task[None]
    execution: Execution
    gate: Gate


@asynccontextmanager
async def at_work(docket: Docket, **options: Any) -> AsyncGenerator[AtWork]:
    """Within the context of a worker whose run is under way, and which runs a gate."""
    gate = Gate()
    docket.register(gate, names=["gate"])
    async with Worker(docket, **options) as worker:
        run = asyncio.create_task(worker.run_forever())
        execution = await docket.add("gate")("x")
        await gate.has_begun()
        yield AtWork(run, execution, gate)


async def test_a_cancelled_run_drains_and_then_raises_the_cancellation(docket: Docket):
    async with at_work(docket) as (run, execution, gate):
        late = await docket.add("trace", key="late")("not claimed any more")
        run.cancel()
        await asyncio.sleep(0.05)
        assert not run.done()
        gate.open.set()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert await execution.get_result(timeout=LIMIT) == "x"
    await late.sync()
    assert late.state in ("queued", "completed")
    assert await docket.workers() == []
    await docket.clear()


async def test_leaving_the_context_ends_a_run_that_is_under_way(docket: Docket):
    async with at_work(docket) as (run, execution, gate):
        asyncio.get_running_loop().call_later(0.1, gate.open.set)
    assert run.done() and run.exception() is None
    assert await execution.get_result(timeout=LIMIT) == "x"
    late = await docket.add("trace")("nobody claims it")
    await asyncio.sleep(0.1)
    await late.sync()
    assert late.state == "queued"
    assert await docket.workers() == []
    await docket.clear()


async def test_leaving_the_context_waits_no_longer_than_a_drain(docket: Docket):
    async with at_work(docket, drain_timeout=NO_TIME) as (run, execution, _):
        pass
    assert run.done() and run.exception() is None
    await execution.sync()
    assert execution.state == "queued", "it was handed back"
    await docket.clear()


async def test_an_error_that_leaves_the_context_does_not_wait_for_a_task_that_never_ends(
    docket: Docket, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("docket_runtime.drain.SHORT_DRAIN", timedelta(milliseconds=100))
    with pytest.raises(LookupError):
        async with at_work(docket) as (run, execution, _):
            raise LookupError
    assert run.done() and run.exception() is None
    await execution.sync()
    assert execution.state == "queued", "it was handed back"
    await docket.clear()


async def test_wait_for_around_a_run_raises_its_timeout(docket: Docket):
    async with Worker(docket) as worker:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(worker.run_forever(), 0.1)


async def test_a_run_can_be_cancelled_at_whatever_moment_of_its_start(docket: Docket):
    for step in range(0, 60, 2):
        async with Worker(docket, drain_timeout=NO_TIME) as worker:
            run = asyncio.create_task(worker.run_forever())
            for _ in range(step):
                await asyncio.sleep(0)
            run.cancel()
            done, _ = await asyncio.wait({run}, timeout=3)
            assert done, f"cancelled after {step} steps, it goes on"
            assert run.cancelled()
    assert await docket.workers() == []


async def test_nothing_is_lost_while_short_lived_workers_come_and_go(docket: Docket):
    ran: Counter[int] = Counter()

    async def note(number: int) -> None:
        ran[number] += 1

    docket.register(note)
    executions = []
    for turn in range(25):
        async with running(docket, concurrency=2):
            for number in range(8):
                executions.append(await docket.add(note)(turn * 8 + number))
    await work_off(docket, redelivery_timeout=timedelta(milliseconds=400))
    assert ran == Counter(range(200))


async def test_run_at_most_cancels_what_would_run_more_often(docket: Docket):
    ran: Counter[str] = Counter()

    async def chain(key: str = TaskKey(), client: Docket = CurrentDocket()) -> None:
        ran[key] += 1
        if ran[key] < 50:
            await client.add(chain, key=key)()

    async def note() -> None:
        ran["note"] += 1

    await docket.add(chain, key="three")()
    await docket.add(chain, key="one")()
    await docket.add(note)()
    async with Worker(docket) as worker:
        await asyncio.wait_for(worker.run_at_most({"three": 3, "one": 1}), 5)
    assert ran == {"three": 3, "one": 1, "note": 1}
    for key in ("three", "one"):
        execution = await docket.get_execution(key)
        assert execution is not None and execution.state == "cancelled"


async def test_a_worker_keeps_nothing_of_what_it_has_run(docket: Docket):
    async def takes(value: Weighty) -> Weighty:
        return value

    def takes_sync(value: Weighty) -> Weighty:
        return value

    async with Worker(docket, concurrency=4) as worker:
        await docket.add_many([docket.call(each)(Weighty()) for each in (takes, takes_sync) * 50])
        await finish(worker)
        assert not worker.flights.under_way and not worker.claims
        gc.collect()
        assert Weighty.alive == 0


async def test_a_hundred_slots_take_few_connections(docket: Docket):
    gate, sync_gate = Gate(), SyncGate()
    most_clients: list[int] = []

    async def busy(client: Docket = CurrentDocket()) -> None:
        await client.add("trace", when=soon(seconds=60), key="same")("x")
        await gate("")

    def busy_sync(client: blocking.Docket = CurrentDocket()) -> None:  # type: ignore[assignment]
        client.add("trace", when=soon(seconds=60), key="same")("x")
        sync_gate("")

    before = await clients(docket)
    async with running(docket, concurrency=100):
        await docket.add_many([docket.call(busy)() for _ in range(50)])
        await docket.add_many([docket.call(busy_sync)() for _ in range(50)])
        await until(lambda: gate.inside == 50 and sync_gate.inside == 50)
        most_clients.append(await clients(docket))
        gate.open.set()
        sync_gate.open.set()
        await until(lambda: not gate.inside and not sync_gate.inside)
    assert most_clients[0] - before <= 20
    await docket.clear()
    assert await clients(docket) <= before + 8  # the docket's own stay


async def test_all_slots_are_used_and_never_more(docket: Docket):
    gate, sync_gate = Gate(), SyncGate()
    docket.register(gate, names=["gate"])
    docket.register(sync_gate, names=["sync"])
    async with running(docket, concurrency=7):
        await docket.add_many(
            [docket.call("gate")() for _ in range(10)] + [docket.call("sync")() for _ in range(10)]
        )
        await until(lambda: gate.inside + sync_gate.inside == 7)
        await asyncio.sleep(0.05)
        assert gate.inside + sync_gate.inside == 7
        gate.open.set()
        sync_gate.open.set()
        await until(lambda: len(gate.log) == 20 and len(sync_gate.log) == 20)
    assert gate.most_inside + sync_gate.most_inside <= 14


async def test_async_tasks_run_although_every_thread_is_taken(docket: Docket):
    sync_gate = SyncGate()
    docket.register(sync_gate, names=["sync"])
    async with running(docket, concurrency=10, threads=1):
        await docket.add("sync")()
        await sync_gate.has_begun()
        quick = await docket.add("trace")("x")
        try:
            await quick.get_result(timeout=timedelta(seconds=1))
        finally:
            sync_gate.open.set()


async def test_two_workers_share_the_work_and_run_each_once(docket: Docket, docket_name: str, redis_url: str):
    ran: Counter[int] = Counter()
    who: Counter[str] = Counter()

    async def note(number: int) -> None:
        ran[number] += 1
        await asyncio.sleep(0.001)

    async with Docket(docket_name, redis_url) as other:
        other.register(note)
        await docket.add_many([docket.call(note)(number) for number in range(600)])
        first, second = Watched(), Watched()
        async with (
            Worker(docket, name="a", concurrency=5, surroundings=Surroundings(board=first)) as a,
            Worker(other, name="b", concurrency=5, surroundings=Surroundings(board=second)) as b,
        ):
            await asyncio.gather(finish(a), finish(b))
            who["a"], who["b"] = first.completed, second.completed
    assert ran == Counter(range(600))
    assert who["a"] > 50 and who["b"] > 50


async def test_tasks_see_their_surroundings(docket: Docket):
    from docket import CurrentExecution, CurrentWorker

    seen: list[tuple[str, str, str, str, bool]] = []

    async def looks(
        client: Docket = CurrentDocket(), worker: Worker = CurrentWorker(),
        execution: Execution = CurrentExecution(), key: str = TaskKey(),
    ) -> None:  # fmt: skip
        assert isinstance(client, Docket)
        seen.append(
            (
                client.name,
                worker.name,
                execution.key,
                key,
                threading.current_thread() is threading.main_thread(),
            )
        )

    def looks_sync(
        client: blocking.Docket = CurrentDocket(), worker: Worker = CurrentWorker(),  # type: ignore[assignment]
        execution: blocking.Execution = CurrentExecution(), key: str = TaskKey(),  # type: ignore[assignment]
    ) -> None:  # fmt: skip
        assert isinstance(client, blocking.Docket) and isinstance(execution, blocking.Execution)
        execution.sync()
        assert execution.state == "running"
        seen.append(
            (
                client.name,
                worker.name,
                execution.key,
                key,
                threading.current_thread() is threading.main_thread(),
            )
        )

    await docket.add(looks, key="a")()
    await docket.add(looks_sync, key="b")()
    await work_off(docket, name="w")
    assert sorted(seen, key=lambda row: row[2]) == [
        (docket.name, "w", "a", "a", True),
        (docket.name, "w", "b", "b", False),
    ]


YOUNG = """
import asyncio, gc, sys
from docket import Docket, Worker
from docket.store import scripts

async def main():
    full = []
    gc.callbacks.append(lambda phase, info: full.append(phase) if info["generation"] == 2 else None)
    async with Docket("young", sys.argv[1]) as docket:
        full.clear()
        async with Worker(docket):
            assert full == ["start", "stop"], full
            assert all("source" in vars(script) for script in scripts.ALL)

asyncio.run(main())
"""


def test_what_a_young_process_has_due_is_done_before_its_first_worker_is_open(redis_url: str):
    """And not while tasks run: the texts of the scripts are put together, the collector has been through."""
    subprocess.run([sys.executable, "-c", YOUNG, redis_url], check=True, timeout=30, env=variables())


async def test_the_roll_says_who_works(docket: Docket):
    async def special() -> None: ...

    docket.register(special)
    async with running(docket, name="w", concurrency=3):
        (info,) = await docket.workers()
        assert info.name == "w" and "special" in info.tasks and info.concurrency == 3
        assert [each.name for each in await docket.task_workers("special")] == ["w"]
        assert await docket.task_workers("unheard of") == []
    assert await docket.workers() == []


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"concurrency": -1},
        {"threads": 0},
        {"redelivery_timeout": timedelta(0)},
        {"redelivery_timeout": timedelta(seconds=-1)},
        {"drain_timeout": timedelta(seconds=-1)},
        {"message_batch": 0},
        {"max_crashes": 0},
        {"minimum_check_interval": timedelta(0)},
    ],
    ids=str,
)
async def test_numbers_that_make_no_sense_are_refused_with_a_sentence(docket: Docket, options: dict):
    with pytest.raises(ValueError, match=f"expected {next(iter(options))} to be"):
        Worker(docket, **options)
