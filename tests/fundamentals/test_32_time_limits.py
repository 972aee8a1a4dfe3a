"""How long a task may run, and how a sync task can be stopped."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from docket import Docket, Retry, Timeout, Worker, check_cancelled, shield

A_MOMENT = timedelta(milliseconds=60)


async def run(docket: Docket) -> None:
    async with Worker(docket) as worker:
        await asyncio.wait_for(worker.run_until_finished(), 10)


async def test_a_task_that_runs_too_long_fails_with_a_timeout(docket: Docket) -> None:
    """Its clean-up is waited for; a retry counts it like any failure."""
    events: list[str] = []

    async def slow(timeout: Timeout = Timeout(A_MOMENT), retry: Retry = Retry(attempts=2)) -> None:
        events.append(f"attempt {retry.attempt}")
        try:
            await asyncio.sleep(30)
        finally:
            events.append("cleaned up")

    execution = await docket.add(slow)()
    await run(docket)
    with pytest.raises(TimeoutError):
        await execution.get_result()
    assert events == ["attempt 1", "cleaned up", "attempt 2", "cleaned up"]


async def test_it_may_ask_for_more_time(docket: Docket) -> None:
    async def patient(timeout: Timeout = Timeout(A_MOMENT)) -> str:
        for _ in range(4):
            await asyncio.sleep(0.04)
            timeout.extend(timedelta(milliseconds=60))
        return "done"

    execution = await docket.add(patient)()
    await run(docket)
    assert await execution.get_result() == "done"


async def test_a_sync_task_is_interrupted_in_its_thread(docket: Docket) -> None:
    """At its next Python instruction."""
    turns: list[int] = []

    def busy(timeout: Timeout = Timeout(A_MOMENT)) -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            turns.append(1)

    execution = await docket.add(busy)()
    await run(docket)
    with pytest.raises(TimeoutError):
        await execution.get_result()
    assert turns


async def test_what_is_shielded_is_not_torn_apart(docket: Docket) -> None:
    """The interruption comes at the end of the block."""
    events: list[str] = []

    def careful(timeout: Timeout = Timeout(A_MOMENT)) -> None:
        with shield():
            until = time.monotonic() + 0.2
            while time.monotonic() < until:
                pass
            events.append("written in one piece")
        events.append("not reached")

    execution = await docket.add(careful)()
    await run(docket)
    with pytest.raises(TimeoutError):
        await execution.get_result()
    assert events == ["written in one piece"]


async def test_a_sync_task_may_ask_whether_it_shall_end(docket: Docket) -> None:
    """`check_cancelled` raises then; where nothing was cancelled it does nothing."""
    check_cancelled()
    rounds: list[int] = []

    def polite(timeout: Timeout = Timeout(A_MOMENT)) -> None:
        with shield():
            while True:
                rounds.append(1)
                check_cancelled()

    execution = await docket.add(polite)()
    await run(docket)
    with pytest.raises(TimeoutError):
        await execution.get_result()
    assert rounds


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a timeout to be positive"):
        Timeout(timedelta(0))
