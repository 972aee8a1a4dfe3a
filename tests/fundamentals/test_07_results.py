"""What a task returns or raises comes back to whoever asks for it."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime, timedelta
from typing import Any

import pytest

from docket import Docket, ResultUnavailable, Worker


class PaymentRefused(Exception):
    """An exception with a constructor of its own."""

    def __init__(self, customer: int, *, reason: str) -> None:
        super().__init__(f"customer {customer}: {reason}")
        self.customer, self.reason = customer, reason


async def test_a_returned_value_comes_back(docket: Docket, work):
    """Any value that can be pickled."""

    async def describe(name: str) -> dict[str, Any]:
        return {"name": name, "letters": set(name)}

    execution = await docket.add(describe)("Jane")
    await work()
    assert await execution.get_result() == {"name": "Jane", "letters": {"J", "a", "n", "e"}}


async def test_none_comes_back_as_none(docket: Docket, work):
    """A task that returns nothing has a result all the same: it has ended."""

    async def nothing() -> None: ...

    execution = await docket.add(nothing)()
    await work()
    assert await execution.get_result() is None


async def test_whoever_asks_early_waits(docket: Docket):
    """There is no polling: the end is announced."""

    async def slow() -> str:
        await asyncio.sleep(0.05)
        return "done"

    execution = await docket.add(slow)()
    waiting = asyncio.create_task(execution.get_result())
    async with Worker(docket) as worker:
        await worker.run_until_finished()
    assert await asyncio.wait_for(waiting, 5) == "done"


async def test_a_raised_exception_comes_back_as_itself(docket: Docket, work):
    """With its own type and attributes, and with the traceback from the worker as its cause."""

    async def charge(customer: int) -> None:
        raise PaymentRefused(customer, reason="expired card")

    execution = await docket.add(charge)(12345)
    await work()
    with pytest.raises(PaymentRefused) as caught:
        await execution.get_result()
    assert caught.value.customer == 12345 and caught.value.reason == "expired card"
    assert "in charge" in str(caught.value.__cause__)


async def test_waiting_can_be_limited(docket: Docket, tomorrow: datetime, now: datetime):
    """By a duration or by a moment, but not by both."""

    async def later() -> None: ...

    execution = await docket.add(later, when=tomorrow)()
    with pytest.raises(TimeoutError):
        await execution.get_result(timeout=timedelta(milliseconds=20))
    with pytest.raises(TimeoutError):
        await execution.get_result(deadline=now + timedelta(milliseconds=20))
    with pytest.raises(ValueError):
        await execution.get_result(timeout=timedelta(seconds=1), deadline=tomorrow)
    await docket.clear()


async def test_a_result_that_cannot_travel_fails_its_task_only(docket: Docket, work):
    """The error says which type it was."""

    async def lock_this() -> object:
        return threading.Lock()

    execution = await docket.add(lock_this)()
    await work()
    with pytest.raises(TypeError, match="lock"):
        await execution.get_result()


async def test_any_process_can_ask_by_the_key(docket: Docket, docket_name: str, redis_url: str, work):
    """An execution can be had from its key, somewhere else, later."""

    async def double(number: int) -> int:
        return 2 * number

    await docket.add(double, key="k")(21)
    await work()
    async with Docket(docket_name, redis_url) as elsewhere:
        execution = await elsewhere.get_execution("k")
        assert execution is not None
        assert await execution.get_result() == 42
        assert await elsewhere.get_execution("there is no such key") is None


async def test_what_has_ended_is_kept_for_a_while(docket_name: str, redis_url: str):
    """`execution_ttl` says how long; then the record and the result are gone."""

    async def double(number: int) -> int:
        return 2 * number

    async with Docket(docket_name, redis_url, execution_ttl=timedelta(milliseconds=300)) as docket:
        execution = await docket.add(double, key="k")(21)
        async with Worker(docket) as worker:
            await worker.run_until_finished()
        assert await execution.get_result() == 42
        while await docket.get_execution("k") is not None:
            await asyncio.sleep(0.02)
        with pytest.raises(ResultUnavailable):
            await execution.get_result()


async def test_nothing_need_be_kept(docket_name: str, redis_url: str):
    """With `execution_ttl=0` nothing remains after the end, and asking for a result says so at once."""
    ran: list[int] = []

    async def note() -> None:
        ran.append(1)

    async with Docket(docket_name, redis_url, execution_ttl=timedelta(0)) as docket:
        execution = await docket.add(note, key="k")()
        with pytest.raises(ResultUnavailable, match="execution_ttl=0"):
            await execution.get_result()
        async with Worker(docket) as worker:
            await worker.run_until_finished()
        assert ran == [1]
        assert await docket.get_execution("k") is None
