"""Sync executions and threads: as many are claimed as there are threads for, and none is blamed for waiting for one."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any

import pytest

from docket import ConcurrencyLimit, Depends, Docket, ExecutionCancelled, Timeout, Worker
from docket.message import Claimed
from docket_runtime.claims import Claims, Flight
from docket_runtime.surroundings import Surroundings
from tests.runtime.support import Gate, SyncGate, Watched, running, until, work_off

LIMIT = timedelta(seconds=5)
LONG = timedelta(minutes=5)


class Limits(Watched):
    """Remembers the deadlines it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.deadlines: list[float] = []

    def limited(self, place: int, deadline: float, allowed: float, verb: str, operand: int) -> None:
        self.deadlines.append(deadline)


@contextmanager
def in_the_thread() -> Iterator[None]:
    yield


def claimed(entry: str) -> Claimed:
    return Claimed(entry, "key", "f", b"", 0, 1)


# --- who waits for a thread -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "with a dependency in the thread"])
async def test_a_time_limit_does_not_run_while_a_thread_is_waited_for(plain: bool, docket: Docket):
    """Or what has not begun fails, and costs the process a thread that nobody can end."""
    gate, board = SyncGate(), Limits()
    docket.register(gate, names=["gate"])

    def task(timeout: Timeout = Timeout(LONG)) -> str:
        return "done"

    def dependent(opened: None = Depends(in_the_thread), timeout: Timeout = Timeout(LONG)) -> str:
        return "done"

    async with running(docket, threads=1, concurrency=2, surroundings=Surroundings(board=board)) as worker:
        await docket.add("gate")()
        await gate.has_begun()
        execution = await docket.add(task if plain else dependent)()
        await until(lambda: sum(flight.in_thread for flight in worker.claims) == 2)
        assert board.deadlines == []
        gate.open.set()
        assert await execution.get_result(timeout=LIMIT) == "done"
    assert len(board.deadlines) == 2


async def test_what_waits_for_a_thread_ends_at_once_when_it_is_cancelled(docket: Docket):
    gate, ran = SyncGate(), list[str]()
    docket.register(gate, names=["gate"])

    def task(what: str) -> str:
        ran.append(what)
        return what

    async with running(docket, threads=1, concurrency=2) as worker:
        first = await docket.add("gate")("first")
        await gate.has_begun()
        waiting = await docket.add(task, key="k")("never")
        await until(lambda: len(worker.claims) == 2)
        await docket.cancel("k")
        await until(lambda: len(worker.claims) == 1)
        with pytest.raises(ExecutionCancelled):
            await waiting.get_result(timeout=LIMIT)
        # Its job is still there, before that of the next.
        following = await docket.add(task)("next")
        await until(lambda: len(worker.claims) == 2)
        assert not any(flight.stopped for flight in worker.claims)
        gate.open.set()
        assert await first.get_result(timeout=LIMIT) == "first"
        assert await following.get_result(timeout=LIMIT) == "next"
    assert ran == ["next"]


async def test_what_waits_for_a_thread_is_handed_back_by_a_drain(docket: Docket):
    gate, ran = SyncGate(), list[str]()
    docket.register(gate, names=["gate"])

    def task() -> None:
        ran.append("task")

    async with Worker(docket, threads=1, concurrency=2) as worker:
        run = asyncio.create_task(worker.run_forever())
        await docket.add("gate")()
        await gate.has_begun()
        await docket.add(task)()
        await until(lambda: len(worker.claims) == 2)
        worker.drain.ask(0.0)
        await until(lambda: len(worker.claims) == 1)
        assert ran == []
        gate.open.set()
        await run
    await work_off(docket)
    assert ran == ["task"]


async def test_a_flight_whose_thread_has_it_just_now_is_left_to_that():
    """It looks whether it was told to end before it begins."""
    for awaits_thread in (True, False):
        flight = Flight(claimed("d:1-0"), 0, begun=True, in_thread=True, awaits_thread=awaits_thread)
        flight.task = asyncio.create_task(asyncio.sleep(0.01))
        flight.stop()
        await asyncio.wait({flight.task})
        assert flight.task.cancelled() is awaits_thread


# --- who has one ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "with a dependency in the thread"])
async def test_a_body_that_ended_in_time_has_done_so_though_the_loop_heard_of_it_too_late(
    plain: bool, docket: Docket
):
    limits, blocked, board = list[Timeout](), threading.Event(), Limits()

    def body(timeout: Timeout) -> str:
        limits.append(timeout)
        blocked.wait(10)
        return "done"

    def task(timeout: Timeout = Timeout(timedelta(seconds=1))) -> str:
        return body(timeout)

    def dependent(
        opened: None = Depends(in_the_thread), timeout: Timeout = Timeout(timedelta(seconds=1))
    ) -> str:
        return body(timeout)

    async def blocks() -> None:
        await until(lambda: limits)
        blocked.set()
        while not limits[0].expired():
            time.sleep(0.01)
        assert board.deadlines[-1] == math.inf  # nobody who reads it meanwhile takes it for late

    async with running(docket, surroundings=Surroundings(board=board)):
        execution = await docket.add(task if plain else dependent)()
        blocking = await docket.add(blocks)()
        assert await execution.get_result(timeout=LIMIT) == "done"
        await blocking.get_result(timeout=LIMIT)


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "with a dependency in the thread"])
async def test_what_a_body_returns_to_be_awaited_is_the_rest_of_it(plain: bool, docket: Docket):
    def task(timeout: Timeout = Timeout(timedelta(milliseconds=50))) -> Any:
        return asyncio.sleep(30)

    def dependent(
        opened: None = Depends(in_the_thread), timeout: Timeout = Timeout(timedelta(milliseconds=50))
    ) -> Any:
        return asyncio.sleep(30)

    execution = await docket.add(task if plain else dependent)()
    await work_off(docket)
    with pytest.raises(TimeoutError):
        await execution.get_result()


# --- how many are claimed -------------------------------------------------------------------------------------------


async def test_what_still_opens_its_dependencies_counts_against_the_threads(docket: Docket):
    """Or a busy worker claims all there is, and an idle one beside it gets nothing."""
    session = Gate()

    def task(session: str = Depends(session.__call__)) -> None: ...

    await docket.add_many([docket.call(task)() for _ in range(8)])
    options = {"threads": 2, "concurrency": 8}
    async with running(docket, name="a", **options) as busy, running(docket, name="b", **options) as idle:
        # Two, and one ahead.
        await until(lambda: len(busy.claims) == len(idle.claims) == 3)
        session.open.set()
        await until(lambda: len(session.log) == 16)
    await work_off(docket)


async def test_what_asks_to_be_admitted_counts_against_the_threads(
    docket: Docket, monkeypatch: pytest.MonkeyPatch
):
    asked = Gate()

    async def held(*_: object) -> Any:
        await asked()

    def task(limit: ConcurrencyLimit = ConcurrencyLimit(max_concurrent=8)) -> None: ...

    monkeypatch.setattr("docket_runtime.executor.named", held)
    await docket.add_many([docket.call(task)() for _ in range(8)])
    options = {"threads": 2, "concurrency": 8}
    async with running(docket, name="a", **options) as busy, running(docket, name="b", **options) as idle:
        await until(lambda: len(busy.claims) == len(idle.claims) == 3)
        await until(lambda: busy.threads.free == idle.threads.free == -1)
    monkeypatch.undo()
    await work_off(docket)


async def test_what_is_closed_on_the_loop_needs_its_thread_no_more(docket: Docket):
    closing, ran = asyncio.Event(), list[int]()

    @asynccontextmanager
    async def session() -> AsyncIterator[None]:
        yield
        await closing.wait()

    def task(number: int, session: None = Depends(session)) -> None:
        ran.append(number)

    docket.register(task)
    await docket.add_many([docket.call(task)(number) for number in range(4)])
    async with running(docket, threads=1, concurrency=4) as worker:
        await until(lambda: len(ran) == 4)
        assert len(worker.claims) == 4 and worker.threads.free == 1
        closing.set()
        await until(lambda: not worker.claims)
    await work_off(docket)


async def test_every_way_out_gives_back_the_thread_that_was_meant_for_an_execution(docket: Docket):
    async def broken() -> None:
        raise RuntimeError("no database")

    def never(session: None = Depends(broken)) -> None: ...

    def fails() -> None:
        raise ValueError

    def turned_away(limit: ConcurrencyLimit = ConcurrencyLimit(max_concurrent=1)) -> None: ...

    async with running(docket, threads=2, concurrency=4) as worker:
        for task in (never, fails, turned_away, turned_away, turned_away):
            await docket.add(task)()
        await until(lambda: worker.flights.begun >= 5 and not worker.claims)
        assert worker.threads.free == 2
    await work_off(docket)


async def test_what_was_just_claimed_may_need_a_thread(docket: Docket):
    def task() -> None: ...

    docket.register(task)
    async with running(docket, threads=4, concurrency=8) as worker:
        (claims,) = (desk.claims for desk in worker.desks)
        flights = [claims.take(claimed(f"d:{number}-0")) for number in range(5)]
        assert worker.free_threads() == -1
        flights[0].begun = True
        assert worker.free_threads() == 1  # none is free: one ahead
        flights[1].begun = True
        assert worker.free_threads() == 1
        for flight in flights:
            claims.release(flight)
        assert worker.free_threads() == 4


def test_those_who_have_not_begun_are_the_latest():
    claims = Claims(4)
    assert claims.unbegun == 0
    flights = [claims.take(claimed(f"d:{number}-0")) for number in range(3)]
    assert claims.unbegun == 3
    flights[0].begun = flights[1].begun = True
    assert claims.unbegun == 1
    claims.release(flights[2])
    assert claims.unbegun == 0
