"""A worker that leaves finishes what it has begun, or hands it back."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from docket import CurrentExecution, Docket, Execution, Worker


async def test_what_runs_is_waited_for(docket: Docket):
    """Without a limit, for as long as it takes. Nothing new is begun."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    ran: list[str] = []

    async def slow() -> None:
        begun.set()
        await go_on.wait()
        ran.append("slow")

    async def note() -> None:
        ran.append("note")

    async with Worker(docket, concurrency=1) as worker:
        working = asyncio.create_task(worker.run_forever())
        await docket.add(slow)()
        await begun.wait()
        await docket.add(note)()
        working.cancel()
        await asyncio.sleep(0.05)
        assert not working.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await working
    assert ran == ["slow"]
    await docket.clear()


async def test_at_the_deadline_it_is_interrupted_and_handed_back(docket: Docket):
    """Another worker runs it again; that costs no attempt, and the execution can tell."""
    begun = asyncio.Event()
    seen: list[tuple[int, bool]] = []

    async def slow(execution: Execution = CurrentExecution()) -> str:
        seen.append((execution.attempt, execution.redelivered))
        if len(seen) == 1:
            begun.set()
            await asyncio.sleep(60)
        return "done"

    execution = await docket.add(slow)()
    async with Worker(docket, drain_timeout=timedelta(milliseconds=50)) as worker:
        working = asyncio.create_task(worker.run_forever())
        await begun.wait()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

    async with Worker(docket) as another:
        await another.run_until_finished()
    assert seen == [(1, False), (1, True)]
    assert await execution.get_result() == "done"
