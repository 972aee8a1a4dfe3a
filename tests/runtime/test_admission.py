"""What passes between a worker and the ledger when a limit stands between a claim and its body."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

from docket import LIMIT_BY, Docket, ExecutionState, TaskKey, Worker, testing
from docket.dependencies import ConcurrencyLimit, Cooldown, Debounce, RateLimit, Retry
from tests.runtime.support import finish, soon, until

HOUR = timedelta(hours=1)
API = LIMIT_BY.constant("api")
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
        retry: Retry = Retry(attempts=2, delay=HOUR),
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
        await testing.advance(docket, HOUR)
        async with asyncio.timeout(5):
            while not any(limit.waiting for limit in await docket.limits()):
                await asyncio.sleep(0.005)
        gates.go.set()
        await run
    await first.sync()
    assert first.state is ExecutionState.COMPLETED
    assert ran == ["first 1", "second 1", "first 2"]


# --- rates that share a name ----------------------------------------------------------------------------------------


async def often(
    key: str = TaskKey(), rate: RateLimit = RateLimit(5, per=timedelta(seconds=1), limit_by=API)
) -> None:
    ran.append(key)


async def many_an_hour(
    key: str = TaskKey(), rate: RateLimit = RateLimit(1120, per=HOUR, limit_by=API)
) -> None:
    ran.append(key)


async def many_or_none(
    key: str = TaskKey(), rate: RateLimit = RateLimit(1120, per=HOUR, drop=True, limit_by=API)
) -> None:
    ran.append(key)


async def log_of(docket: Docket, name: str = "api") -> list[tuple[bytes, float]]:
    async with docket.redis() as redis:
        found: Any = await redis.zrange(docket.keys.rates(name), 0, -1, withscores=True)
        return found


async def let_others_start(docket: Docket, count: int, ago: timedelta) -> None:
    """As if so many had begun at that moment."""
    async with docket.redis() as redis:
        moment = time.time_ns() // 1000 - ago // timedelta(microseconds=1)
        await redis.zadd(docket.keys.rates("api"), {f"d:{number}-0": moment for number in range(count)})


async def test_a_small_rate_forgets_no_start_that_a_large_one_counts(docket: Docket) -> None:
    """They share a log, of which each used to keep as much as mattered to itself."""

    async def call_api(
        burst: RateLimit = RateLimit(500, per=timedelta(milliseconds=1)),
        sustained: RateLimit = RateLimit(1120, per=HOUR),
    ) -> None:
        ran.append("")

    await docket.add_many([docket.call(call_api)() for _ in range(1300)])
    async with Worker(docket, concurrency=100) as worker:
        run = asyncio.create_task(worker.run_until_finished())
        async with asyncio.timeout(20):
            while [limit.waiting for limit in await docket.limits()] != [180]:
                await asyncio.sleep(0.02)
        assert len(ran) == 1120
        await docket.clear()
        await run
    assert len(await log_of(docket)) < 1130


async def test_a_large_rate_counts_what_other_tasks_begin(docket: Docket) -> None:
    async with Worker(docket) as worker:
        await docket.add(many_an_hour, key="first")()
        await finish(worker)
        await let_others_start(docket, 1118, 10 * HOUR / 60)
        for key in ("often", "another"):
            await docket.add(often, key=key)()
        await docket.add(many_or_none, key="dropped")()
        await finish(worker)
    assert ran == ["first", "often", "another"]


async def test_what_is_no_limit_any_more_makes_no_log_longer(docket: Docket) -> None:
    """A day behind its window: it may only have been quiet."""
    async with Worker(docket) as worker:
        await docket.add(many_an_hour, key="first")()
        await finish(worker)
        await let_others_start(docket, 5000, HOUR / 2)
        await docket.add(often, key="second")()
        await finish(worker)
        assert len(await log_of(docket)) == 1120 + 1
        await testing.advance(docket, 26 * HOUR)
        await docket.add(often, key="third")()
        await finish(worker)
    assert len(await log_of(docket)) == 1000
    assert ran == ["first", "second", "third"]


async def test_a_rate_that_refuses_everybody_goes_on_counting(docket: Docket) -> None:
    """It never begins any more, and yet others must not let go of what it counts."""
    docket.register(many_or_none)
    async with Worker(docket) as worker, docket.redis() as redis:
        await docket.add(many_or_none, key="first")()
        await finish(worker)
        await let_others_start(docket, 1119, HOUR / 2)
        log = docket.keys.rates("api")
        await redis.zremrangebyscore(log, "-inf", "(0")  # a day and an hour later
        await redis.pexpire(log, 60_000)
        await docket.add(many_or_none, key="dropped")()
        await finish(worker)
        assert await redis.zcount(log, "-inf", "(0") == 1
        assert await redis.pttl(log) > 59 * 60_000
        assert ran == ["first"]


async def test_a_call_that_never_begins_takes_no_start_from_the_log(docket: Docket) -> None:
    """Admitted, it stands there, and the oldest start goes; when it is cancelled, that one would be missed."""

    async def first_in_line(
        customer: str,
        limit: ConcurrencyLimit = ONE,
        rate: RateLimit = RateLimit(900, per=timedelta(seconds=1), limit_by=API),
    ) -> None:
        await gates.pass_(customer)

    async with Worker(docket) as worker:
        await docket.add(many_an_hour, key="many")()
        await finish(worker)
    await let_others_start(docket, 1300, HOUR / 2)
    await admit_and_leave(docket, first_in_line)
    assert len(await log_of(docket)) == 1 + 1120 + 1
    await docket.cancel("b")
    assert len(await log_of(docket)) == 1 + 1120


async def test_time_that_is_let_pass_begins_nothing(docket: Docket) -> None:
    """What is admitted and has not begun stands in a window without a moment: cancelled after an hour, it is gone."""

    async def one_by_one(
        customer: str,
        limit: ConcurrencyLimit = ONE,
        rate: RateLimit = RateLimit(10, per=HOUR, limit_by=API),
    ) -> None:
        await gates.pass_(customer)

    await admit_and_leave(docket, one_by_one)
    await testing.advance(docket, HOUR)
    await docket.cancel("b")
    assert len(await log_of(docket)) == 1


async def test_a_newcomer_with_a_longer_window_does_not_delay_the_line(docket: Docket) -> None:
    async def quick(
        key: str = TaskKey(),
        rate: RateLimit = RateLimit(1, per=timedelta(milliseconds=300), limit_by=API),
    ) -> None:
        ran.append(key)

    async def slow(key: str = TaskKey(), rate: RateLimit = RateLimit(1, per=HOUR, limit_by=API)) -> None:
        ran.append(key)

    async with Worker(docket) as worker:
        run = asyncio.create_task(worker.run_forever())
        await docket.add(quick, key="first")()
        await until(lambda: ran == ["first"])
        await docket.add(quick, key="second")()
        await docket.add(slow, key="behind it")()
        await until(lambda: ran == ["first", "second"])
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    await docket.clear()


# --- calls that never begin -----------------------------------------------------------------------------------------


async def admit_and_leave(docket: Docket, task: Any) -> None:
    """`a` has run; `b`, which waited for it, has been let in, and nobody is there to begin it."""
    await docket.add(task, key="a")("a")
    async with Worker(docket) as worker:
        run = asyncio.create_task(worker.run_forever())
        await until(lambda: gates.running == ["a"])
        await docket.add(task, key="b")("b")
        async with asyncio.timeout(5):
            while not any(limit.waiting for limit in await docket.limits()):
                await asyncio.sleep(0.002)
        run.cancel()
        gates.go.set()
        with pytest.raises(asyncio.CancelledError):
            await run
    async with docket.redis() as redis:
        state, permits = await redis.hmget(docket.keys.runs("b"), "state", "permits")
    assert state == b"queued" and permits


async def test_an_older_call_is_not_refused_because_of_one_that_was_cancelled(docket: Docket) -> None:
    async def save(key: str = TaskKey(), debounce: Debounce = Debounce(timedelta(milliseconds=50))) -> None:
        ran.append(key)

    await docket.add(save, when=soon(milliseconds=200), key="older")()
    async with Worker(docket) as worker:
        run = asyncio.create_task(worker.run_until_finished())
        later = await docket.add(save, when=soon(milliseconds=20), key="later")()
        async with asyncio.timeout(5):
            while not await debounced(docket, "later"):
                await asyncio.sleep(0.002)
        await docket.cancel("later")
        await run
    await later.sync()
    assert later.state is ExecutionState.CANCELLED
    assert ran == ["older"]


async def debounced(docket: Docket, key: str) -> bool:
    async with docket.redis() as redis:
        found: Any = await redis.get(docket.keys.debounces("save"))
        return (found or b"").endswith(b":" + key.encode())


ONE = ConcurrencyLimit(max_concurrent=1)


async def cooled(
    customer: str, limit: ConcurrencyLimit = ONE, span: Cooldown = Cooldown(HOUR, limit_by="customer")
) -> None:
    ran.append(customer)
    await gates.pass_(customer)


async def leading(
    customer: str,
    limit: ConcurrencyLimit = ONE,
    span: Debounce = Debounce(HOUR, edge="leading", limit_by="customer"),
) -> None:
    ran.append(customer)
    await gates.pass_(customer)


def mark_of(docket: Docket, task: Any) -> str:
    return (docket.keys.cooldowns if task is cooled else docket.keys.debounces)("customer:b")


@pytest.mark.parametrize("fate", ["cancelled", "replaced"])
@pytest.mark.parametrize("task", [cooled, leading])
async def test_a_call_that_never_began_keeps_nobody_away(docket: Docket, task: Any, fate: str) -> None:
    await admit_and_leave(docket, task)
    if fate == "replaced":
        following = await docket.replace(task, soon(), "b")("b")
    else:
        await docket.cancel("b")
        following = await docket.add(task, key="another")("b")
    async with Worker(docket) as worker:
        await finish(worker)
        refused = await docket.add(task, key="c")("b")
        await finish(worker)
    await following.sync()
    await refused.sync()
    assert (following.state, refused.state) == (ExecutionState.COMPLETED, ExecutionState.CANCELLED)
    assert ran == ["a", "b"]


async def deliver_to_nobody(docket: Docket) -> None:
    """What has been let in is on its way to a worker that will not take it."""
    async with docket.redis() as redis:
        await redis.xreadgroup("docket-workers", "nobody", {docket.keys.lane("r"): ">"})
        await redis.zadd(docket.keys.workers, {"nobody": time.time_ns() // 10**6 + 3_600_000})


async def strike_nobody_off(docket: Docket) -> None:
    async with docket.redis() as redis:
        await redis.zadd(docket.keys.workers, {"nobody": 1})


@pytest.mark.parametrize("task", [cooled, leading])
async def test_a_call_that_is_about_to_begin_keeps_others_away(docket: Docket, task: Any) -> None:
    """Even if its worker dies before it begins: it is still the same call."""
    await admit_and_leave(docket, task)
    await deliver_to_nobody(docket)
    async with Worker(docket) as worker:
        run = asyncio.create_task(worker.run_forever())
        refused = await docket.add(task, key="c")("b")
        async with asyncio.timeout(5):
            while refused.state is not ExecutionState.CANCELLED:
                await asyncio.sleep(0.005)
                await refused.sync()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    await strike_nobody_off(docket)
    async with Worker(docket) as worker:
        await finish(worker)
    assert ran == ["a", "b"]


@pytest.mark.parametrize("handed_over", [False, True])
@pytest.mark.parametrize("task", [cooled, leading])
async def test_a_span_is_counted_from_when_the_run_begins(
    docket: Docket, task: Any, handed_over: bool
) -> None:
    await admit_and_leave(docket, task)
    async with docket.redis() as redis:
        await redis.pexpire(mark_of(docket, task), 60_000)  # for so long nobody has been there
        if handed_over:
            await deliver_to_nobody(docket)
            await strike_nobody_off(docket)
        async with Worker(docket) as worker:
            await finish(worker)
        assert ran == ["a", "b"]
        assert await redis.pttl(mark_of(docket, task)) > 59 * 60_000
