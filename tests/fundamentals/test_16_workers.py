"""A worker runs until everything is done, for ever, or each key so many times at the most."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime

import pytest

from docket import CurrentDocket, Docket, TaskKey, Worker


async def test_until_finished_waits_for_future_work_too(docket: Docket, soon: datetime):
    """It returns when nothing waits, is parked or runs any more."""
    ran: list[str] = []

    async def note(what: str) -> None:
        ran.append(what)

    await docket.add(note)("now")
    await docket.add(note, when=soon)("later")
    async with Worker(docket) as worker:
        await worker.run_until_finished()
    assert ran == ["now", "later"]


async def test_for_ever_is_until_it_is_cancelled(docket: Docket):
    """Then the worker drains, and the cancellation goes on as it should."""
    ran: list[int] = []

    async def note() -> None:
        ran.append(1)

    async with Worker(docket) as worker:
        working = asyncio.create_task(worker.run_forever())
        execution = await docket.add(note)()
        await execution.get_result()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
    assert ran == [1]


async def test_at_most_runs_a_key_so_many_times(docket: Docket):
    """Made for testing what reschedules itself."""
    ran: Counter[str] = Counter()

    async def forever(key: str = TaskKey(), my_docket: Docket = CurrentDocket()) -> None:
        ran[key] += 1
        await my_docket.add(forever, key=key)()

    await docket.add(forever, key="a")()
    await docket.add(forever, key="b")()
    async with Worker(docket) as worker:
        await asyncio.wait_for(worker.run_at_most({"a": 3, "b": 1}), 10)
    assert ran == {"a": 3, "b": 1}


async def test_concurrency_is_how_many_run_at_once(docket: Docket):
    """Never more than that, sync and async together."""
    inside = most = 0

    async def body() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.01)
        inside -= 1

    for _ in range(20):
        await docket.add(body)()
    async with Worker(docket, concurrency=3) as worker:
        await worker.run_until_finished()
    assert most == 3


async def test_several_workers_share_the_work(docket: Docket):
    """Each execution is run by one of them."""
    ran: Counter[int] = Counter()

    async def note(number: int) -> None:
        ran[number] += 1
        await asyncio.sleep(0.001)

    await docket.add_many([docket.call(note)(number) for number in range(100)])
    async with Worker(docket, concurrency=5) as a, Worker(docket, concurrency=5) as b:
        await asyncio.gather(a.run_until_finished(), b.run_until_finished())
    assert ran == Counter(range(100))


async def test_numbers_that_make_no_sense_are_refused(docket: Docket):
    """With a sentence, before anything runs."""
    with pytest.raises(ValueError, match="expected concurrency to be at least 1, got 0"):
        Worker(docket, concurrency=0)
