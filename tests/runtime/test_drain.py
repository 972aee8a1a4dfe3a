"""How a worker ends: quiet, waiting, interrupting what is left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from docket import CurrentExecution, Docket, Execution, Retry, Shared, Worker
from docket_runtime.surroundings import Surroundings
from tests.redis_server import RedisServer
from tests.runtime.support import NO_TIME, Gate, SyncGate, Watched, finish, running, until, work_off

LIMIT = timedelta(seconds=5)


async def stopped(worker: Worker, run: asyncio.Task[None]) -> None:
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(run, 5)


async def test_an_interrupted_async_body_is_handed_back_without_losing_an_attempt(docket: Docket):
    seen: list[tuple[int, bool]] = []
    begun = asyncio.Event()

    async def body(retry: Retry = Retry(attempts=2), execution: Execution = CurrentExecution()) -> str:
        seen.append((retry.attempt, execution.redelivered))
        if len(seen) == 1:
            begun.set()
            await asyncio.sleep(60)
        return "done"

    execution = await docket.add(body)()
    async with running(docket):
        await begun.wait()
    await execution.sync()
    assert execution.state == "queued"
    await work_off(docket)
    assert seen == [(1, False), (1, True)]
    assert await execution.get_result(timeout=LIMIT) == "done"


async def test_a_body_that_catches_its_interruption_and_fails_is_handed_back_all_the_same(docket: Docket):
    """Drained work does not consume an attempt, however ungracefully the body takes it."""
    runs: list[int] = []
    begun = asyncio.Event()

    async def body() -> str:
        runs.append(1)
        if len(runs) == 1:
            begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise ValueError("my connection was cut") from None
        return "done"

    execution = await docket.add(body)()
    async with running(docket):
        await begun.wait()
    await work_off(docket)
    assert await execution.get_result(timeout=LIMIT) == "done"


async def test_a_body_that_finishes_within_the_grace_counts(docket: Docket):
    runs: list[int] = []
    begun = asyncio.Event()

    async def body() -> str:
        runs.append(1)
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
        return "finished after all"

    execution = await docket.add(body)()
    async with running(docket):
        await begun.wait()
    assert await execution.get_result(timeout=LIMIT) == "finished after all"
    assert runs == [1]


async def test_a_drain_without_a_limit_waits(docket: Docket):
    gate, sync_gate = Gate(), SyncGate()
    docket.register(gate, names=["gate"])
    docket.register(sync_gate, names=["sync"])
    executions = [await docket.add("gate")("a"), await docket.add("sync")("b")]
    async with Worker(docket) as worker:
        run = asyncio.create_task(worker.run_forever())
        await gate.has_begun()
        await sync_gate.has_begun()
        run.cancel()
        await asyncio.sleep(0.1)
        assert not run.done()
        gate.open.set()
        sync_gate.open.set()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(run, 5)
        assert [await each.get_result(timeout=LIMIT) for each in executions] == ["a", "b"]


async def test_nothing_is_claimed_while_draining(docket: Docket):
    gate = Gate()
    ran: list[int] = []

    async def note() -> None:
        ran.append(1)

    docket.register(gate, names=["gate"])
    async with Worker(docket) as worker:
        run = asyncio.create_task(worker.run_forever())
        await docket.add("gate")()
        await gate.has_begun()
        await until(lambda: worker.exchange.reading)
        worker.drain.ask(None)
        await until(lambda: not worker.exchange.reading)
        for _ in range(5):
            await docket.add(note)()
        gate.open.set()
        await asyncio.wait_for(run, 5)
    assert ran == []
    await work_off(docket)
    assert len(ran) == 5


async def test_a_nearer_deadline_shortens_a_drain_and_a_later_one_does_not_lengthen_it(docket: Docket):
    begun = asyncio.Event()

    async def body() -> None:
        begun.set()
        await asyncio.sleep(60)

    execution = await docket.add(body, key="k")()
    async with Worker(docket) as worker:
        run = asyncio.create_task(worker.run_forever())
        await begun.wait()
        worker.drain.ask(time.monotonic() + 60)
        await asyncio.sleep(0.05)
        assert not run.done()
        worker.drain.ask(time.monotonic() + 0.1)
        worker.drain.ask(time.monotonic() + 60)
        await asyncio.wait_for(run, 3)
        assert worker.drain.passed_deadline
    await execution.sync()
    assert execution.state == "queued"
    await docket.clear()


async def test_a_drained_worker_is_off_the_roll_and_leaves_nothing_behind(docket: Docket):
    async with running(docket):
        for _ in range(20):
            await docket.add("trace")("x")
    assert await docket.workers() == []
    async with docket.redis() as redis:
        for lane in (docket.keys.stream, docket.keys.redelivered, docket.keys.suspects):
            groups: Any = await redis.execute_command("XINFO", "GROUPS", lane)
            flat = dict(zip(groups[0][::2], groups[0][1::2], strict=True))
            assert flat[b"consumers"] == 0 and flat[b"pending"] == 0
    await docket.clear()


async def test_one_that_has_left_does_not_drain_again_however_long_its_application_closes_what_it_opened(
    docket: Docket,
):
    """Whoever keeps watch would take it for one that holds something, and whose loop stands."""
    closing, may_close = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def pool() -> AsyncIterator[str]:
        yield "pool"
        closing.set()
        await may_close.wait()

    async def body(pool: str = Shared(pool)) -> str:
        return pool

    board = Watched()
    execution = await docket.add(body)()
    async with Worker(docket, surroundings=Surroundings(board=board)) as worker:
        run = asyncio.create_task(worker.run_until_finished())
        async with asyncio.timeout(5):
            await closing.wait()
        worker.drain.ask(time.monotonic() + 60)
        assert board.phases == ["working", "draining", "left"]
        may_close.set()
        await asyncio.wait_for(run, 5)
        await docket.add(body)()
        await finish(worker)
    assert await execution.get_result(timeout=LIMIT) == "pool"
    assert board.phases == ["working", "draining", "left"] * 2, "each run is one of its own"


async def test_a_sync_body_is_interrupted_at_the_deadline_and_handed_back(docket: Docket):
    import threading

    begun = threading.Event()
    runs: list[int] = []

    def body() -> str:
        runs.append(1)
        if len(runs) == 1:
            begun.set()
            for _ in range(2000):
                time.sleep(0.002)
        return "done"

    execution = await docket.add(body)()
    async with running(docket):
        await asyncio.to_thread(begun.wait, 5)
    await work_off(docket)
    assert await execution.get_result(timeout=LIMIT) == "done"
    assert len(runs) == 2


async def test_what_the_reader_is_given_in_the_last_moment_is_not_lost(docket: Docket):
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    docket.register(note)
    for turn in range(30):
        async with Worker(docket, drain_timeout=NO_TIME) as worker:
            run = asyncio.create_task(worker.run_forever())
            await until(lambda worker=worker: worker.worker_id and worker.exchange.reading)
            adding = asyncio.ensure_future(docket.add(note)(turn))
            for _ in range(turn):
                await asyncio.sleep(0)
            await stopped(worker, run)
            await adding
    async with Worker(docket) as worker:
        await finish(worker, 5)
    assert sorted(ran) == list(range(30))


async def two_that_end_one_by_one_while_redis_is_silent(
    docket: Docket, redis: RedisServer, **options: Any
) -> tuple[list[str], Worker, asyncio.Task[None]]:
    """The outcome of the first is on its way when that of the second comes; `b` is not to be begun a second time."""
    gates, ended = {"a": asyncio.Event(), "b": asyncio.Event()}, list[str]()

    async def body(name: str) -> None:
        await gates[name].wait()
        ended.append(name)

    for name in gates:
        await docket.add(body, key=name)(name)
    worker = Worker(docket, **options)
    await worker.__aenter__()
    run = asyncio.create_task(worker.run_forever())
    await until(lambda: len(worker.claims) == 2)
    run.cancel()
    await until(lambda: worker.is_quiet)
    await asyncio.sleep(0.05)
    redis.pause()
    for gate in gates.values():
        gate.set()
        await asyncio.sleep(0.05)
    await until(lambda: not worker.claims)
    return ended, worker, run


async def test_as_long_as_a_drain_has_time_what_has_ended_is_settled(own_redis: RedisServer):
    async with Docket("drain", own_redis.url) as docket:
        ended, worker, run = await two_that_end_one_by_one_while_redis_is_silent(
            docket, own_redis, drain_timeout=timedelta(seconds=30)
        )
        await asyncio.sleep(2.5)
        assert not run.done()
        own_redis.resume()
        await asyncio.gather(run, return_exceptions=True)
        await worker.__aexit__(None, None, None)
        await work_off(docket)
    assert ended == ["a", "b"]


async def test_outcomes_are_given_up_when_the_deadline_comes_nearer(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
):
    """Whoever asks a second time does not wait for a Redis that is away, beyond the two seconds there always are."""
    async with Docket("drain", own_redis.url) as docket:
        _, worker, run = await two_that_end_one_by_one_while_redis_is_silent(
            docket, own_redis, drain_timeout=timedelta(seconds=30)
        )
        began = time.monotonic()
        own_redis.kill()
        worker.drain.ask(began + 0.1)
        await asyncio.wait_for(asyncio.gather(run, return_exceptions=True), 5)
        assert time.monotonic() - began > 1.5
        assert worker.drain.passed_deadline
        assert "executions that have ended Redis was not told" in caplog.text
        own_redis.start()
        await worker.__aexit__(None, None, None)
