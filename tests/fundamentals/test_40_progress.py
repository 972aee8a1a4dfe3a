"""A long task says how far it has come, and whoever is interested can see it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from docket import CurrentExecution, Docket, Execution, Progress, Retry, Worker
from docket import sync as blocking
from docket.execution import ExecutionProgress

Work = Callable[[], Awaitable[None]]


async def test_a_task_reports_its_progress(docket: Docket, work: Work) -> None:
    """It asks for `Progress()`: how much there is to do, how much is done, and what is being done."""
    seen: list[tuple[Any, ...]] = []

    async def import_records(records: list[str], progress: ExecutionProgress = Progress()) -> None:
        seen.append((progress.current, progress.total, progress.message, progress.updated_at))
        await progress.set_total(len(records))
        for number, record in enumerate(records, 1):
            await progress.increment()
            await progress.set_message(f"imported {record}")
            seen.append((progress.current, progress.total, progress.message))
            assert number == progress.current
        assert isinstance(progress.updated_at, datetime)

    execution = await docket.add(import_records)(["a", "b"])
    await work()
    await execution.get_result()
    assert seen == [(0, 100, None, None), (1, 2, "imported a"), (2, 2, "imported b")]


async def test_a_sync_task_reports_without_await(docket: Docket, work: Work) -> None:
    """It is given a `docket.sync.ExecutionProgress`, with the same methods."""

    def resize(images: int, progress: Any = Progress()) -> tuple[int, int, str | None]:
        assert isinstance(progress, blocking.ExecutionProgress)
        progress.set_total(images)
        progress.increment(2)
        progress.set_message("half-way")
        progress.sync()
        return progress.current, progress.total, progress.message

    execution = await docket.add(resize)(4)
    await work()
    assert await execution.get_result() == (2, 4, "half-way")


async def test_everybody_can_see_it(docket: Docket) -> None:
    """`execution.sync()` brings it along with the state; `get_execution` has it at once. At the end it is gone."""
    half_way, go_on = asyncio.Event(), asyncio.Event()

    async def brew(progress: ExecutionProgress = Progress()) -> None:
        await progress.increment(50)
        await progress.set_message("the water is hot")
        half_way.set()
        await go_on.wait()

    execution = await docket.add(brew, key="tea")()
    async with Worker(docket) as worker:
        working = asyncio.create_task(worker.run_until_finished())
        await half_way.wait()

        await execution.sync()
        assert (execution.progress.current, execution.progress.total) == (50, 100)
        assert execution.progress.message == "the water is hot"
        found = await docket.get_execution("tea")
        assert found is not None and found.progress.current == 50

        go_on.set()
        await working
    await execution.sync()
    assert (execution.progress.current, execution.progress.message) == (0, None)


async def test_increments_add_up_whoever_makes_them(docket: Docket, work: Work) -> None:
    """An increment is atomic: parts of a task that run side by side need not agree."""

    async def crunch(progress: ExecutionProgress = Progress()) -> int:
        await asyncio.gather(*(progress.increment(2) for _ in range(100)))
        await progress.sync()
        return progress.current

    execution = await docket.add(crunch)()
    await work()
    assert await execution.get_result() == 200


async def test_the_execution_has_it_too(docket: Docket, work: Work) -> None:
    """`CurrentExecution().progress` is the same thing."""

    async def task(
        execution: Execution = CurrentExecution(), progress: ExecutionProgress = Progress()
    ) -> int:
        await execution.progress.increment(7)
        return progress.current

    execution = await docket.add(task)()
    await work()
    assert await execution.get_result() == 7


async def test_another_attempt_begins_at_nothing(docket: Docket, work: Work) -> None:
    """Progress belongs to one run."""
    began_at: list[tuple[int, int, str | None]] = []

    async def stumble(
        progress: ExecutionProgress = Progress(), retry: Retry = Retry(attempts=2)
    ) -> tuple[int, int]:
        await progress.sync()
        began_at.append((progress.current, progress.total, progress.message))
        if retry.attempt == 1:
            await progress.set_total(5)
            await progress.set_message("so far so good")
            raise ValueError("on purpose")
        await progress.increment()
        return progress.current, progress.total

    execution = await docket.add(stumble)()
    await work()
    assert began_at == [(0, 100, None)] * 2
    assert await execution.get_result() == (1, 100)


async def test_what_makes_no_sense_is_refused_with_a_sentence(docket: Docket) -> None:
    """There is always something to do, and progress goes forward."""
    progress = (await docket.add("trace")("x")).progress
    with pytest.raises(ValueError, match="expected total to be at least 1, got 0"):
        await progress.set_total(0)
    with pytest.raises(ValueError, match="expected amount to be at least 1, got -1"):
        await progress.increment(-1)
    with pytest.raises(TypeError, match=r"expected amount to be a whole number, got 0\.5"):
        await progress.increment(0.5)  # type: ignore
    await docket.clear()


async def test_where_nothing_is_kept_progress_does_nothing(docket_name: str, redis_url: str) -> None:
    """With `execution_ttl=0` a task that reports runs like any other; nobody can see it."""
    reported: list[int] = []

    async def task(progress: ExecutionProgress = Progress()) -> None:
        await progress.set_total(10)
        await progress.increment()
        reported.append(progress.current)

    async with Docket(docket_name, redis_url, execution_ttl=timedelta(0)) as docket:
        await docket.add(task)()
        async with Worker(docket) as worker:
            await asyncio.wait_for(worker.run_until_finished(), 10)
    assert reported == [0]
