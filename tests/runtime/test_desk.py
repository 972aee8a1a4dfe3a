"""What is asked of Redis beside the exchange may be refused for a while: what is in flight comes to its end, once."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from datetime import timedelta
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from docket import ConnectionFailed, Docket, Perpetual, Worker, scheduling
from docket.store.asynchronous import AsyncStore
from docket.store.requests import Commands
from tests.runtime.support import NO_TIME, Gate, until

ERRORS = [
    ResponseError("BUSY Redis is busy running a script"),
    RedisConnectionError("gone"),
    ConnectionFailed("gone twice"),
    OSError("no descriptors are left"),
]
by_type = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)


class Refusals:
    """So many, one after another."""

    def __init__(self, error: Exception, most: float) -> None:
        self.error, self.most, self.count = error, most, 0

    def maybe(self) -> None:
        if self.count < self.most:
            self.count += 1
            raise self.error


@by_type
async def test_a_run_of_so_many_times_at_most_survives_that_it_cannot_cancel_the_next(
    docket: Docket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
):
    gate = Gate()
    ran: list[str] = []
    refusals = Refusals(error, 2)
    cancel = scheduling.cancel

    def refused_at_first(*args: Any) -> Generator[Any, Any, Any]:
        refusals.maybe()
        return (yield from cancel(*args))

    async def poll(perpetual: Perpetual = Perpetual(every=timedelta(hours=1))) -> None:
        await gate.has_begun()
        ran.append("poll")

    docket.register(gate, names=["gate"])
    monkeypatch.setattr(scheduling, "cancel", refused_at_first)
    in_flight = await docket.add("gate")("in flight")
    await docket.add(poll, key="poll")()
    async with Worker(docket, drain_timeout=NO_TIME) as worker:
        run = asyncio.create_task(worker.run_at_most({"poll": 1}))
        await until(lambda: refusals.count == 2)
        gate.open.set()
        await asyncio.wait_for(run, 5)
    assert gate.log == ["began in flight", "ended in flight"] and ran == ["poll"]
    await in_flight.sync()
    polled = await docket.get_execution("poll")
    assert in_flight.state == "completed" and polled is not None and polled.state == "cancelled"
    assert caplog.text.count("could not cancel poll, which has run as often as it may") == 1


@pytest.fixture
def never_told(monkeypatch: pytest.MonkeyPatch) -> Refusals:
    """How many calls were ever scheduled is what Redis does not say."""
    refusals = Refusals(OSError("replaced by each test"), 0)
    ask = AsyncStore.ask

    async def asked(store: AsyncStore, request: Any) -> Any:
        if isinstance(request, Commands) and str(request.commands[0][-1]).endswith(":generations"):
            refusals.maybe()
        return await ask(store, request)

    monkeypatch.setattr(AsyncStore, "ask", asked)
    return refusals


@by_type
async def test_the_end_of_a_run_over_partitions_is_found_though_redis_refuses_at_first(
    docket_name: str, redis_url: str, never_told: Refusals, caplog: pytest.LogCaptureFixture, error: Exception
):
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    async with Docket(name=docket_name, url=redis_url, partitions=3) as docket:
        await docket.add_many([docket.call(note)(number) for number in range(10)])
        never_told.error, never_told.most = error, 2
        async with Worker(docket, drain_timeout=NO_TIME) as worker:
            await asyncio.wait_for(worker.run_until_finished(), 10)
    assert sorted(ran) == list(range(10)) and never_told.count == 2
    assert caplog.text.count("could not ask whether anything was scheduled meanwhile") == 1


async def test_a_run_over_partitions_can_be_drained_while_redis_refuses_to_tell_of_its_end(
    docket_name: str, redis_url: str, never_told: Refusals
):
    never_told.error, never_told.most = ResponseError("max requests limit exceeded"), float("inf")
    async with (
        Docket(name=docket_name, url=redis_url, partitions=3) as docket,
        Worker(docket, drain_timeout=NO_TIME) as worker,
    ):
        run = asyncio.create_task(worker.run_until_finished())
        await until(lambda: never_told.count)
        worker.drain.ask_as_set()
        await asyncio.wait_for(run, 5)
