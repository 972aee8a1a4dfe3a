"""`docket.testing`: claims see everything that waits and show it, time can be moved on, a worker runs to the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from docket import CurrentDocket, Docket, ExponentialRetry, Retry, testing
from docket import sync as blocking
from docket.store.wire import Wire
from tests.runtime.support import Gate, running

HOUR = timedelta(hours=1)


async def greet(name: str, greeting: str = "Hello") -> str:
    return f"{greeting}, {name}!"


async def other() -> None: ...


def later(by: timedelta = HOUR) -> datetime:
    return datetime.now(UTC) + by


@pytest.fixture
def blocking_docket(docket_name: str, redis_url: str) -> Iterator[blocking.Docket]:
    with blocking.Docket(docket_name, redis_url) as docket:
        yield docket


# --- claims ---------------------------------------------------------------------------------------------------------


async def test_what_is_queued_and_what_is_scheduled_for_later_is_scheduled(docket: Docket):
    await docket.add(greet, key="now")("Jane", greeting="Howdy")
    await docket.add(other, when=later(), key="later")()
    await testing.assert_task_scheduled(docket, greet)
    await testing.assert_task_scheduled(
        docket, "greet", args=("Jane",), kwargs={"greeting": "Howdy"}, key="now"
    )
    await testing.assert_task_scheduled(docket, greet, kwargs={})
    await testing.assert_task_scheduled(docket, other, args=(), key="later")
    await testing.assert_task_count(docket, count=2)
    await testing.assert_task_count(docket, greet, count=1)
    await testing.assert_task_not_scheduled(docket, greet, args=("John",))
    await testing.assert_task_not_scheduled(docket, greet, kwargs={"greeting": "Hello"})
    await testing.assert_task_not_scheduled(docket, greet, key="later")
    await testing.assert_task_not_scheduled(docket, "nobody")


async def test_a_claim_that_fails_shows_what_is_scheduled(docket: Docket):
    await docket.add(greet, key="now")("Jane", greeting="Howdy")
    await docket.add(other, when=later(), key="later")()
    with pytest.raises(AssertionError) as failure:
        await testing.assert_task_scheduled(docket, greet, args=("John",), key="now")
    text = str(failure.value)
    assert text.startswith("expected greet with args=('John',), key='now' to be scheduled, but it is not\n")
    assert "  greet('Jane', greeting='Howdy') key='now', queued\n" in text
    assert "  other() key='later', scheduled, due in 0:59:" in text


async def test_each_claim_can_fail(docket: Docket):
    with pytest.raises(AssertionError, match="nothing is scheduled in the docket"):
        await testing.assert_task_scheduled(docket, greet)
    await docket.add(greet, key="k")("Jane")
    with pytest.raises(AssertionError, match=r"expected greet not to be scheduled, but it is\n.*\n  greet"):
        await testing.assert_task_not_scheduled(docket, greet)
    with pytest.raises(AssertionError, match="expected 2 calls of greet to be scheduled, found 1"):
        await testing.assert_task_count(docket, greet, count=2)
    with pytest.raises(AssertionError, match="expected 0 tasks to be scheduled, found 1"):
        await testing.assert_no_tasks(docket)


async def test_a_function_is_found_under_the_names_it_was_registered_with(docket: Docket):
    docket.register(greet, names=["hello", "welcome"])
    await docket.add("welcome")("Jane")
    await testing.assert_task_scheduled(docket, greet)
    with pytest.raises(AssertionError, match="hello or welcome"):
        await testing.assert_task_scheduled(docket, greet, key="another")


async def test_claims_see_more_than_a_page_and_show_the_first_few(docket: Docket):
    await docket.add_many([docket.call(greet)(str(i)) for i in range(1500)])
    await docket.add_many([docket.call(other, when=later())() for _ in range(700)])
    await testing.assert_task_count(docket, greet, count=1500)
    await testing.assert_task_count(docket, count=2200)
    await testing.assert_task_scheduled(docket, greet, args=("1499",))
    with pytest.raises(AssertionError, match="… and 2180 more"):
        await testing.assert_no_tasks(docket)


async def test_tasks_that_nobody_registered_here_can_be_claimed(
    docket: Docket, docket_name: str, redis_url: str
):
    async with Docket(docket_name, redis_url) as elsewhere:
        await elsewhere.add("a_stranger", key="k")(1)
    await testing.assert_task_scheduled(docket, "a_stranger", args=(1,))
    async with docket.redis() as redis:
        await redis.hset(docket.keys.runs("k"), "body", b"nonsense")  # pyright: ignore[reportGeneralTypeIssues]
    with pytest.raises(AssertionError, match="arguments that cannot be unpickled here"):
        await testing.assert_task_scheduled(docket, "a_stranger", args=(1,))


async def test_what_runs_and_what_has_ended_is_not_scheduled(docket: Docket):
    gate = Gate()
    async with running(docket):
        execution = await docket.add(gate)()
        await gate.has_begun()
        await testing.assert_no_tasks(docket)
        gate.open.set()
        await execution.get_result(timeout=timedelta(seconds=5))
        await testing.assert_no_tasks(docket)


async def test_claims_about_a_blocking_docket_need_no_await(blocking_docket: blocking.Docket):
    testing.assert_no_tasks(blocking_docket)
    blocking_docket.add(greet, key="k")("Jane")
    testing.assert_task_scheduled(blocking_docket, greet, args=("Jane",), key="k")
    testing.assert_task_not_scheduled(blocking_docket, other)
    testing.assert_task_count(blocking_docket, greet, count=1)
    with pytest.raises(AssertionError):
        testing.assert_no_tasks(blocking_docket)


# --- time -----------------------------------------------------------------------------------------------------------


async def test_advancing_brings_everything_parked_nearer(docket: Docket):
    when = later(HOUR * 3)
    near = await docket.add(greet, when=when - HOUR, key="near")("Jane")
    far = await docket.add(greet, when=when, key="far")("John")
    assert await testing.advance(docket, HOUR) == 2
    await near.sync()
    await far.sync()
    assert (near.when, far.when) == (when - 2 * HOUR, when - HOUR)
    assert near.state == far.state == "scheduled"
    async with docket.redis() as redis:
        assert await redis.zscore(docket.keys.queue, "far") == (when - HOUR).timestamp() * 1_000_000  # pyright: ignore


async def test_what_is_due_after_advancing_runs_at_once(docket: Docket):
    soon = await docket.add(greet, when=later(HOUR))("Jane")
    day = await docket.add(greet, when=later(24 * HOUR))("John")
    await testing.advance(docket, HOUR)
    await testing.run_what_is_due(docket)
    assert await soon.get_result() == "Hello, Jane!"
    await testing.assert_task_count(docket, count=1)
    await testing.advance(docket, 1000 * 365 * 24 * HOUR)
    await testing.run_to_the_end(docket)
    assert await day.get_result() == "Hello, John!"


async def test_a_worker_that_waits_for_the_future_hears_of_it(docket: Docket):
    execution = await docket.add(greet, when=later())("Jane")
    async with running(docket):
        await testing.advance(docket, HOUR)
        assert await execution.get_result(timeout=timedelta(seconds=2)) == "Hello, Jane!"


async def test_time_only_goes_forward(docket: Docket):
    assert await testing.advance(docket, timedelta(0)) == 0
    with pytest.raises(ValueError, match="time only goes forward"):
        await testing.advance(docket, -HOUR)


async def test_each_attempt_of_a_retry_can_be_stepped_through(docket: Docket):
    attempts: list[int] = []

    async def flaky(
        retry: Retry = ExponentialRetry(attempts=3, minimum_delay=HOUR, maximum_delay=24 * HOUR),
    ) -> str:
        attempts.append(retry.attempt)
        if retry.attempt < 3:
            raise ValueError("not yet")
        return "at last"

    execution = await docket.add(flaky)()
    await testing.run_what_is_due(docket)
    assert attempts == [1]
    await testing.advance(docket, HOUR)
    await testing.run_what_is_due(docket)
    assert attempts == [1, 2]
    await testing.advance(docket, HOUR)
    await testing.run_what_is_due(docket)
    assert attempts == [1, 2], "the second pause is two hours"
    await testing.advance(docket, HOUR)
    await testing.run_what_is_due(docket)
    assert await execution.get_result() == "at last"


# --- running --------------------------------------------------------------------------------------------------------


async def test_running_to_the_end_waits_for_the_near_future(docket: Docket):
    execution = await docket.add(greet, when=later(timedelta(milliseconds=30)))("Jane")
    await testing.run_to_the_end(docket, concurrency=1)
    assert await execution.get_result() == "Hello, Jane!"
    await testing.assert_no_tasks(docket)


async def test_running_what_is_due_runs_what_tasks_add_on_their_way(docket: Docket):
    ran: list[int] = []

    async def countdown(left: int, docket: Docket = CurrentDocket()) -> None:
        ran.append(left)
        if left:
            await docket.add(countdown)(left - 1)

    for concurrency in (1, 10):
        await docket.add(countdown)(5)
        await docket.add_many([docket.call(other)() for _ in range(250)])
        await testing.run_what_is_due(docket, concurrency=concurrency)
        await testing.assert_no_tasks(docket)
        assert ran == [5, 4, 3, 2, 1, 0]
        ran.clear()


async def test_what_a_blocked_reader_was_given_is_run_though_its_reply_comes_late(
    docket: Docket, monkeypatch: pytest.MonkeyPatch
):
    reading, ran = asyncio.Event(), list[str]()
    ask = Wire.ask_each

    async def ask_and_dawdle(wire: Wire, commands: Sequence[bytes]) -> list[Any]:
        reading.set()
        replies = await ask(wire, commands)
        await asyncio.sleep(0.05)
        return replies

    async def first(docket: Docket = CurrentDocket()) -> None:
        await reading.wait()
        await docket.add(second)()

    async def second() -> None:
        ran.append("second")

    monkeypatch.setattr(Wire, "ask_each", ask_and_dawdle)
    await docket.add(first)()
    await testing.run_what_is_due(docket)
    assert ran == ["second"]


async def test_many_that_are_due_by_now_are_all_run(docket: Docket):
    await docket.add_many([docket.call(other, when=later())() for _ in range(450)])
    await testing.advance(docket, HOUR)
    await testing.run_what_is_due(docket)
    await testing.assert_no_tasks(docket)


async def test_what_is_left_when_it_takes_too_long_is_named(docket: Docket):
    await docket.add(greet, when=later(), key="far")("Jane")
    with pytest.raises(
        TimeoutError, match=r"not at its end after 0:00:00.1.*left are: greet 'far' \(scheduled, due at"
    ):
        await testing.run_to_the_end(docket, within=timedelta(milliseconds=100))


async def test_a_failing_task_does_not_fail_the_run(docket: Docket):
    async def broken() -> None:
        raise ValueError("why")

    execution = await docket.add(broken)()
    await testing.run_to_the_end(docket)
    with pytest.raises(ValueError, match="why"):
        await execution.get_result()


async def test_a_blocking_docket_is_worked_off_without_await(blocking_docket: blocking.Docket):
    def story() -> str:
        execution = blocking_docket.add(greet, when=later())("Jane")
        assert testing.advance(blocking_docket, HOUR) == 1
        testing.run_what_is_due(blocking_docket)
        testing.run_to_the_end(blocking_docket)
        return execution.get_result()

    assert await asyncio.to_thread(story) == "Hello, Jane!"
