"""What passes between a worker and the ledger when a limit stands between a claim and its body."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from docket import Docket, ExecutionState, TaskKey, Worker, testing
from docket.dependencies import ConcurrencyLimit, Cooldown, Debounce, RateLimit, Retry
from tests.runtime.support import until

HOUR = timedelta(hours=1)
ran: list[str] = []


@pytest.fixture(autouse=True)
def nothing_has_run() -> None:
    ran.clear()


async def hourly(key: str = TaskKey(), rate: RateLimit = RateLimit(1, per=HOUR)) -> None:
    ran.append(key)


async def cooling(key: str = TaskKey(), cooldown: Cooldown = Cooldown(HOUR)) -> None:
    ran.append(key)


async def settling(key: str = TaskKey(), debounce: Debounce = Debounce(HOUR)) -> None:
    ran.append(key)


class Gates:
    """Bodies that run until told."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.most = 0
        self.go = asyncio.Event()

    async def pass_(self, key: str) -> None:
        self.running.append(key)
        self.most = max(self.most, len(self.running))
        try:
            await self.go.wait()
        finally:
            self.running.remove(key)


gates = Gates()


@pytest.fixture(autouse=True)
async def closed_gates() -> None:
    gates.__init__()


async def alone(key: str = TaskKey(), limit: ConcurrencyLimit = ConcurrencyLimit(max_concurrent=1)) -> None:
    await gates.pass_(key)


async def test_time_that_is_let_pass_counts_for_windows_too(docket: Docket) -> None:
    for name in "abc":
        await docket.add(hourly, key=name)()
    async with Worker(docket) as worker:
        run = asyncio.create_task(worker.run_until_finished())
        await until(lambda: ran == ["a"])
        for expected in (["a", "b"], ["a", "b", "c"]):
            await testing.advance(docket, HOUR)
            await until(lambda expected=expected: ran == expected)
        await run


async def test_time_that_is_let_pass_counts_for_cooldowns_and_debounces(docket: Docket) -> None:
    await docket.add(cooling, key="first")()
    await docket.add(settling, key="settles")()
    async with Worker(docket) as worker:
        run = asyncio.create_task(worker.run_until_finished())
        await until(lambda: ran == ["first"])
        await testing.advance(docket, HOUR)
        await run
        await docket.add(cooling, key="second")()
        await worker.run_until_finished()
    assert ran == ["first", "settles", "second"]


async def test_a_drain_while_permits_are_asked_for_gives_the_claims_back(docket: Docket) -> None:
    docket.register(alone)
    async with Worker(docket, concurrency=2) as worker:
        execution = await docket.add("alone", key="by name")()
        run = asyncio.create_task(worker.run_forever())
        await until(lambda: gates.running == ["by name"])
        waiting = await docket.add("alone", key="waits")()
        run.cancel()
        gates.go.set()
        with pytest.raises(asyncio.CancelledError):
            await run
        await execution.sync()
        await waiting.sync()
    assert execution.state is ExecutionState.COMPLETED
    assert waiting.state is ExecutionState.QUEUED
    async with Worker(docket) as another:
        await another.run_until_finished()
    await waiting.sync()
    assert waiting.state is ExecutionState.COMPLETED


async def test_a_worker_of_a_newer_version_has_the_last_word(docket: Docket) -> None:
    """The call was added by code that allowed two at once; the code that runs it allows one."""

    async def newer(
        key: str = TaskKey(), limit: ConcurrencyLimit = ConcurrencyLimit(max_concurrent=1)
    ) -> None:
        await gates.pass_(key)

    async def older(
        key: str = TaskKey(), limit: ConcurrencyLimit = ConcurrencyLimit(max_concurrent=2)
    ) -> None:
        raise AssertionError("the older code ran")

    docket.register(older, names=["both"])
    executions = [await docket.add("both")() for _ in range(3)]
    docket.register(newer, names=["both"])
    async with Worker(docket) as worker:
        run = asyncio.create_task(worker.run_until_finished())
        await until(lambda: len(gates.running) == 1)
        gates.go.set()
        await run
    assert gates.most == 1
    for execution in executions:
        await execution.sync()
        assert execution.state is ExecutionState.COMPLETED


async def test_a_permit_outlives_a_cancelled_body_until_that_has_ended(docket: Docket) -> None:
    unwinding = asyncio.Event()

    async def stubborn(
        who: str, key: str = TaskKey(), limit: ConcurrencyLimit = ConcurrencyLimit("who")
    ) -> None:
        ran.append(key)
        if key == "first":
            try:
                await asyncio.sleep(3600)
            finally:
                unwinding.set()
                await gates.go.wait()
                ran.append("first has ended")

    async with Worker(docket) as worker:
        await docket.add(stubborn, key="first")("x")
        await docket.add(stubborn, key="second")("x")
        run = asyncio.create_task(worker.run_until_finished())
        await until(lambda: ran == ["first"])
        await docket.cancel("first")
        await unwinding.wait()
        assert [limit.waiting for limit in await docket.limits()] == [1]
        gates.go.set()
        await run
    assert ran == ["first", "first has ended", "second"]


@pytest.mark.parametrize("on_conflict", ["cancel", "skip", "replace"])
async def test_what_was_admitted_once_is_not_refused_when_it_comes_again(
    docket: Docket, on_conflict: str
) -> None:
    """Between two attempts another call takes the permit: the second attempt waits for it."""

    async def body(
        key: str = TaskKey(),
        retry: Retry = Retry(attempts=2, delay=timedelta(milliseconds=20)),
        limit: ConcurrencyLimit = ConcurrencyLimit(on_conflict=on_conflict),
    ) -> None:
        ran.append(f"{key} {retry.attempt}")
        if key == "first" and retry.attempt == 1:
            raise ValueError("again")
        if key == "second":
            await gates.pass_(key)

    async with Worker(docket) as worker:
        first = await docket.add(body, key="first")()
        run = asyncio.create_task(worker.run_until_finished())
        await until(lambda: ran == ["first 1"])
        await docket.add(body, key="second")()
        await until(lambda: gates.running == ["second"])
        async with asyncio.timeout(5):
            while not any(limit.waiting for limit in await docket.limits()):
                await asyncio.sleep(0.005)
        gates.go.set()
        await run
    await first.sync()
    assert first.state is ExecutionState.COMPLETED
    assert ran == ["first 1", "second 1", "first 2"]
