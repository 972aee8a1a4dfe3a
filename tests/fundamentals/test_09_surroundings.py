"""A task asks for what is around it with default values."""

from __future__ import annotations

import logging

import pytest

from docket import (
    CurrentDocket,
    CurrentExecution,
    CurrentWorker,
    Docket,
    Execution,
    TaskKey,
    TaskLogger,
    Worker,
)


async def test_a_task_can_ask_for_its_docket_worker_execution_and_key(docket: Docket):
    """They are injected where the caller has not passed anything."""
    seen: list[tuple[str, str, str, int]] = []

    async def look(
        number: int,
        my_docket: Docket = CurrentDocket(),
        worker: Worker = CurrentWorker(),
        execution: Execution = CurrentExecution(),
        key: str = TaskKey(),
    ) -> None:
        assert execution.key == key
        assert execution.args == (number,)
        seen.append((my_docket.name, worker.name, key, number))

    await docket.add(look, key="k")(1)
    async with Worker(docket, name="w") as worker:
        await worker.run_until_finished()
    assert seen == [(docket.name, "w", "k", 1)]


async def test_what_the_caller_passes_wins(docket: Docket, work):
    """An injected parameter is an ordinary parameter."""
    seen: list[str] = []

    async def look(key: str = TaskKey()) -> None:
        seen.append(key)

    await docket.add(look, key="mine")()
    await docket.add(look, key="other")(key="passed")
    await work()
    assert sorted(seen) == ["mine", "passed"]


async def test_a_task_logger_says_which_task_speaks(docket: Docket, caplog: pytest.LogCaptureFixture, work):
    """Its records carry the task, the key, the worker and the attempt, beside what the call adds."""

    async def speak(logger: logging.LoggerAdapter[logging.Logger] = TaskLogger()) -> None:
        logger.info("hello", extra={"mood": "good"})

    caplog.set_level(logging.INFO)
    await docket.add(speak, key="k")()
    await work()
    (record,) = [record for record in caplog.records if record.getMessage() == "hello"]
    assert (record.task, record.key, record.attempt, record.mood) == ("speak", "k", 1, "good")  # type: ignore[attr-defined]


async def test_a_task_can_schedule_more_work(docket: Docket, work):
    """That is what the current docket is for most of the time."""
    ran: list[int] = []

    async def count_down(number: int, my_docket: Docket = CurrentDocket()) -> None:
        ran.append(number)
        if number:
            await my_docket.add(count_down)(number - 1)

    await docket.add(count_down)(3)
    await work()
    assert ran == [3, 2, 1, 0]
