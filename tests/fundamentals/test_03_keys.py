"""The key says what a piece of work is: there is only one of it at a time."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest

from docket import Disposition, Docket, Worker


async def test_a_key_that_waits_is_not_added_again(docket: Docket, work):
    """Adding the same key twice does it once, and says so; the first arguments stay."""
    emails: list[str] = []

    async def send(text: str) -> None:
        emails.append(text)

    first = await docket.add(send, key="welcome-12345")("first")
    second = await docket.add(send, key="welcome-12345")("second")
    assert first.disposition is Disposition.SCHEDULED
    assert second.disposition is Disposition.ALREADY_SCHEDULED

    await work()
    assert emails == ["first"]


async def test_a_key_in_the_future_is_not_added_again(docket: Docket, tomorrow: datetime):
    """That holds for work that is not yet due as well."""

    async def send() -> None: ...

    await docket.add(send, when=tomorrow, key="later")()
    again = await docket.add(send, key="later")()
    assert again.disposition is Disposition.ALREADY_SCHEDULED
    assert again.when == tomorrow
    await docket.clear()


async def test_a_key_that_runs_is_not_added_again_from_elsewhere(docket: Docket):
    """While it runs, only the running execution itself may schedule its successor."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        begun.set()
        await go_on.wait()

    async with Worker(docket) as worker:
        await docket.add(slow, key="slow")()
        running = asyncio.create_task(worker.run_until_finished())
        await begun.wait()
        again = await docket.add(slow, key="slow")()
        assert again.disposition is Disposition.ALREADY_SCHEDULED
        go_on.set()
        await running


async def test_a_key_that_has_ended_can_be_added_again(docket: Docket, work):
    """Completed, failed or cancelled: the key is free."""
    ran: list[str] = []

    async def once_more(what: str) -> None:
        ran.append(what)
        if what == "fails":
            raise ValueError("on purpose")

    for what in ("completes", "fails", "is cancelled", "completes again"):
        execution = await docket.add(once_more, key="k")(what)
        assert execution.disposition is Disposition.SCHEDULED
        if what == "is cancelled":
            await docket.cancel("k")
        await work()
    assert ran == ["completes", "fails", "completes again"]


async def test_without_a_key_everything_is_its_own(docket: Docket, work):
    """Fresh keys never meet."""
    ran: list[int] = []

    async def count() -> None:
        ran.append(1)

    executions = [await docket.add(count)() for _ in range(10)]
    assert len({execution.key for execution in executions}) == 10
    await work()
    assert len(ran) == 10


async def test_one_scheduler_called_twice_is_one_piece_of_work(docket: Docket, work):
    """The fresh key belongs to `add(...)`, not to the call behind it."""
    ran: list[int] = []

    async def count() -> None:
        ran.append(1)

    schedule = docket.add(count)
    await schedule()
    assert (await schedule()).disposition is Disposition.ALREADY_SCHEDULED
    await work()
    assert ran == [1]


@pytest.mark.parametrize(
    "key", ["stream", "queue", "runs:x", "a b\n\tc", "{braces}", "日本語 🎉", "x" * 1000, "*", "0"]
)
async def test_keys_are_free_text(docket: Docket, work, key: str):
    """No key can touch anything else: not another task, not a key of docket's own."""

    async def double(number: int) -> int:
        return 2 * number

    other = await docket.add(double, key="other")(1)
    execution = await docket.add(double, key=key)(21)
    await docket.cancel("stream:nobody")
    await work()
    assert await execution.get_result() == 42
    assert await other.get_result() == 2


async def test_an_empty_key_is_refused(docket: Docket):
    """It would name nothing."""

    async def task() -> None: ...

    with pytest.raises(ValueError, match="key"):
        docket.add(task, key="")
