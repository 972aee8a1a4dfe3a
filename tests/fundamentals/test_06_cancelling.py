"""What shall not be done any more is cancelled, wherever it is."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import datetime, timedelta

import pytest

from docket import Docket, ExecutionCancelled, ExecutionState, Worker, check_cancelled, shield


async def test_queued_and_parked_work_is_cancelled_before_it_begins(docket: Docket, tomorrow: datetime, work):
    """It never runs, and whoever waits for its result is told."""
    ran: list[str] = []

    async def note(what: str) -> None:
        ran.append(what)

    queued = await docket.add(note, key="queued")("queued")
    parked = await docket.add(note, when=tomorrow, key="parked")("parked")
    await docket.cancel("queued")
    await docket.cancel("parked")
    await work()
    assert ran == []
    for execution in (queued, parked):
        await execution.sync()
        assert execution.state is ExecutionState.CANCELLED
        with pytest.raises(ExecutionCancelled):
            await execution.get_result()


async def test_a_running_async_task_is_cancelled_at_its_next_await(docket: Docket):
    """It gets an ordinary CancelledError, and may clean up."""
    begun = asyncio.Event()
    log: list[str] = []

    async def slow() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            log.append("cleaned up")

    async with Worker(docket) as worker:
        execution = await docket.add(slow, key="slow")()
        working = asyncio.create_task(worker.run_until_finished())
        await begun.wait()
        await docket.cancel("slow")
        with pytest.raises(ExecutionCancelled):
            await execution.get_result(timeout=timedelta(seconds=5))
        await asyncio.wait_for(working, 5)
    assert log == ["cleaned up"]


async def test_a_running_sync_task_is_interrupted_in_its_thread(docket: Docket):
    """An exception is raised in it; between `shield()` it is left alone, and `check_cancelled()` asks."""
    begun = threading.Event()
    log: list[str] = []

    def slow() -> None:
        with shield():
            begun.set()
            time.sleep(0.1)
            log.append("this was not torn apart")
        while True:
            check_cancelled()
            time.sleep(0.001)

    async with Worker(docket) as worker:
        execution = await docket.add(slow, key="slow")()
        working = asyncio.create_task(worker.run_until_finished())
        await asyncio.to_thread(begun.wait, 5)
        await docket.cancel("slow")
        with pytest.raises(ExecutionCancelled):
            await execution.get_result(timeout=timedelta(seconds=5))
        await asyncio.wait_for(working, 5)
    assert log == ["this was not torn apart"]


async def test_a_cancelled_key_can_be_added_again_at_once(docket: Docket):
    """The new run begins when the old body has ended: there are never two of one key."""
    begun = asyncio.Event()
    log: list[str] = []

    async def slow(what: str) -> None:
        log.append(f"{what} begins")
        begun.set()
        try:
            await asyncio.sleep(60 if what == "first" else 0)
        finally:
            await asyncio.sleep(0.05)
            log.append(f"{what} ends")

    async with Worker(docket) as worker:
        await docket.add(slow, key="k")("first")
        working = asyncio.create_task(worker.run_until_finished())
        await begun.wait()
        await docket.cancel("k")
        await docket.add(slow, key="k")("second")
        await asyncio.wait_for(working, 5)
    assert log == ["first begins", "first ends", "second begins", "second ends"]


async def test_what_has_ended_is_left_alone(docket: Docket, work):
    """Cancelling too late changes nothing, and neither does cancelling what never was."""

    async def double(number: int) -> int:
        return 2 * number

    execution = await docket.add(double, key="k")(21)
    await work()
    await docket.cancel("k")
    await docket.cancel("there is no such key")
    assert await execution.get_result() == 42
    assert await docket.get_execution("there is no such key") is None


async def test_everything_that_waits_can_be_cleared_away(docket: Docket, tomorrow: datetime, work):
    """`clear()` cancels all that is queued or parked and says how many; what runs goes on."""

    async def note() -> None: ...

    for _ in range(3):
        await docket.add(note)()
        await docket.add(note, when=tomorrow)()
    assert await docket.clear() == 6
    assert await docket.clear() == 0
    assert (await docket.snapshot()).total_tasks == 0
