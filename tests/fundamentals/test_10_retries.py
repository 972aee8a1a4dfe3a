"""What fails may be tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from docket import Docket, ExponentialRetry, Retry


async def test_a_failed_attempt_is_followed_by_another(docket: Docket, work):
    """Up to `attempts` in all; the task can ask which one it is."""
    attempts: list[int] = []

    async def flaky(retry: Retry = Retry(attempts=5)) -> str:
        attempts.append(retry.attempt)
        if retry.attempt < 4:
            raise ValueError("whoops!")
        return "whew!"

    execution = await docket.add(flaky)()
    await work()
    assert attempts == [1, 2, 3, 4]
    assert await execution.get_result() == "whew!"


async def test_after_the_last_attempt_the_exception_stands(docket: Docket, work):
    """The execution is failed then."""
    attempts: list[int] = []

    async def hopeless(retry: Retry = Retry(attempts=3)) -> None:
        attempts.append(retry.attempt)
        raise ValueError(f"attempt {retry.attempt}")

    execution = await docket.add(hopeless)()
    await work()
    assert attempts == [1, 2, 3]
    with pytest.raises(ValueError, match="attempt 3"):
        await execution.get_result()


async def test_without_a_retry_a_task_runs_once(docket: Docket, work):
    """Nobody repeats side effects unasked."""
    ran: list[int] = []

    async def fails() -> None:
        ran.append(1)
        raise ValueError("once")

    await docket.add(fails)()
    await work()
    assert ran == [1]


async def test_there_can_be_a_pause_between_attempts(docket: Docket, work):
    """During the pause the execution is scheduled, and holds nobody up."""
    moments: list[datetime] = []

    async def flaky(retry: Retry = Retry(attempts=3, delay=timedelta(milliseconds=50))) -> None:
        moments.append(datetime.now(UTC))
        raise ValueError("again")

    await docket.add(flaky)()
    await work()
    assert len(moments) == 3
    assert all(b - a >= timedelta(milliseconds=49) for a, b in pairwise(moments))


async def test_pauses_can_grow(docket: Docket, work):
    """`ExponentialRetry` doubles them, up to a maximum."""
    moments: list[datetime] = []

    async def flaky(
        retry: Retry = ExponentialRetry(
            attempts=4, minimum_delay=timedelta(milliseconds=20), maximum_delay=timedelta(milliseconds=40)
        ),
    ) -> None:
        moments.append(datetime.now(UTC))
        raise ValueError("again")

    await docket.add(flaky)()
    await work()
    pauses = [(b - a).total_seconds() for a, b in pairwise(moments)]
    assert pauses[0] >= 0.019 and pauses[1] >= 0.039 and 0.039 <= pauses[2] < 0.079


async def test_a_task_can_say_when_it_wants_to_be_tried_again(docket: Docket, work):
    """`retry.after` and `retry.at` end the attempt at once."""
    attempts: list[int] = []

    async def polls(retry: Retry = Retry(attempts=3)) -> str:
        attempts.append(retry.attempt)
        if retry.attempt == 1:
            retry.after(timedelta(milliseconds=10))
        if retry.attempt == 2:
            retry.at(datetime.now(UTC) + timedelta(milliseconds=10))
        return "there"

    execution = await docket.add(polls)()
    await work()
    assert attempts == [1, 2, 3]
    assert await execution.get_result() == "there"
