"""Due work starts at its moment, and an idle worker does next to nothing until then."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from redis import Redis

from docket import Docket, clock
from docket_runtime.scheduler import Schedule
from docket_runtime.surroundings import Surroundings
from tests.redis_server import RedisServer
from tests.runtime.support import Gate, Watched, now, running, soon, until, work_off

LIMIT = timedelta(seconds=8)


async def commands(docket: Docket) -> int:
    async with docket.redis() as redis:
        return (await redis.info("stats"))["total_commands_processed"]


def test_a_reply_that_lay_there_while_the_loop_was_busy_makes_nothing_late():
    """A worker that starts is busy for some 25 ms, and may then have nothing to ask until the first task is due."""
    schedule = Schedule(0.25)
    redis_now_us, asked_at = 1_700_000_000_000_000, clock.monotonic() - 0.025
    schedule.learn(redis_now_us, redis_now_us + 1_000_000, True, asked_at)
    assert schedule.instant is not None and schedule.instant - (asked_at + 1) < 0.003


@pytest.mark.measured
@pytest.mark.parametrize("workers", [1, 3])
async def test_due_tasks_start_within_a_few_milliseconds(docket: Docket, workers: int):
    lags: list[float] = []

    async def note(when: datetime) -> None:
        lags.append((now() - when).total_seconds())

    async with AsyncExitStack() as stack:
        for _ in range(workers):
            await stack.enter_async_context(running(docket))
        moments = [soon(milliseconds=150 + 23 * number) for number in range(25)]
        for when in moments:
            await docket.add(note, when=when)(when)
        await until(lambda: len(lags) == 25)
    assert min(lags) > -0.002
    assert statistics.median(lags) < 0.010


@pytest.mark.measured
async def test_the_first_due_task_after_another_worker_left_is_punctual(docket: Docket):
    """Who woke for the next due time has left: its successor must not wait politely for it."""
    lags: list[float] = []

    async def note(when: datetime) -> None:
        lags.append((now() - when).total_seconds())

    for _ in range(5):
        async with running(docket):
            when = soon(milliseconds=40)
            await docket.add(note, when=when)(when)
            count = len(lags)
            await until(lambda count=count: len(lags) > count)
    assert statistics.median(lags) < 0.010


async def test_whoever_leaves_is_not_the_timekeeper_any_more(docket: Docket):
    """Its key lives for a minute: whoever came meanwhile would leave the first due time to somebody who has gone."""
    gate = Gate()
    async with docket.redis() as redis:
        async with running(docket):
            await docket.add(gate, when=soon(milliseconds=300))()
            await gate.has_begun()
            gate.open.set()
            assert await redis.exists(docket.keys.timekeeper) == 1
        assert await redis.exists(docket.keys.timekeeper) == 0


@pytest.mark.measured
async def test_a_task_added_earlier_than_the_earliest_known_wakes_an_idle_worker(docket: Docket):
    started: list[float] = []

    async def note() -> None:
        started.append(time.monotonic())

    async with running(docket) as worker:
        await docket.add(note, when=soon(seconds=60), key="late")()
        await until(lambda: worker.exchange.reading and worker.desks[0].schedule.instant is not None)
        due = time.monotonic() + 0.1
        await docket.add(note, when=soon(milliseconds=100))()
        await until(lambda: started)
        assert -0.005 < started[0] - due < 0.05
    await docket.clear()


async def test_a_task_replaced_to_be_earlier_runs_earlier(docket: Docket):
    ran = asyncio.Event()

    async def note() -> None:
        ran.set()

    async with running(docket):
        await docket.add(note, when=soon(seconds=60), key="k")()
        await docket.replace(note, soon(milliseconds=30), "k")()
        await asyncio.wait_for(ran.wait(), 1)


@pytest.mark.measured
async def test_five_thousand_due_at_one_moment_all_run_and_redis_stays_responsive(
    own_redis: RedisServer, docket_name: str
):
    ran: Counter[int] = Counter()

    async def note(number: int) -> None:
        ran[number] += 1

    # Redis says itself how long others had to wait: a client of ours would also tell how long this process stood still.
    with Redis.from_url(own_redis.url) as redis:
        redis.config_set("slowlog-log-slower-than", 1000)
        redis.config_set("slowlog-max-len", 1000)
        async with Docket(docket_name, own_redis.url) as docket:
            when = soon(milliseconds=1200)
            await docket.add_many([docket.call(note, when=when)(number) for number in range(5000)])
            redis.slowlog_reset()
            async with running(docket, concurrency=100), running(docket, concurrency=100):
                await until(lambda: len(ran) == 5000, 9)
        assert ran == Counter(range(5000))
        slow: Any = redis.slowlog_get(1000)
    microseconds = [each["duration"] for each in slow] or [0]
    assert statistics.median(microseconds) < 30_000 and max(microseconds) < 300_000, slow


async def test_due_work_is_not_starved_by_a_full_line(docket: Docket):
    order: list[str] = []

    async def note(what: str) -> None:
        order.append(what)
        await asyncio.sleep(0.002)

    await docket.add_many([docket.call(note)("queued") for _ in range(400)])
    await docket.add(note, when=soon(milliseconds=50))("due")
    async with running(docket, concurrency=2):
        await until(lambda: len(order) == 401)
    assert "due" in order


@pytest.mark.parametrize("scheduled", [False, True])
async def test_an_idle_worker_sends_almost_no_commands(docket: Docket, scheduled: bool):
    if scheduled:
        await docket.add("trace", when=soon(seconds=60), key="later")("x")
    async with running(docket) as worker:
        await until(lambda: worker.exchange.reading)
        await asyncio.sleep(0.2)
        before = await commands(docket)
        await asyncio.sleep(1.0)
        sent = await commands(docket) - before - 1
    assert sent <= 10
    await docket.clear()


async def test_a_full_worker_does_not_poll(docket: Docket):
    gate = asyncio.Event()

    async def waits() -> None:
        await gate.wait()

    await docket.add_many([docket.call(waits)() for _ in range(20)])
    board = Watched()
    async with running(docket, concurrency=3, surroundings=Surroundings(board=board)) as worker:
        await until(lambda: len(worker.claims) == 3)
        await asyncio.sleep(0.1)
        before = await commands(docket)
        await asyncio.sleep(0.7)
        assert await commands(docket) - before <= 10
        gate.set()
        await until(lambda: board.completed == 20)


@pytest.mark.measured
async def test_a_retry_delay_is_kept_to_the_millisecond(docket: Docket):
    from docket import Retry

    started: list[float] = []

    async def fails(retry: Retry = Retry(attempts=4, delay=timedelta(milliseconds=60))) -> None:
        started.append(time.monotonic())
        raise ValueError("x")

    async with running(docket):
        await docket.add(fails)()
        await until(lambda: len(started) == 4)
    pauses = [b - a for a, b in pairwise(started)]
    assert min(pauses) >= 0.058 and statistics.median(pauses) < 0.075


async def test_moments_at_the_edges_of_time_are_kept(docket: Docket):
    ran: list[str] = []

    async def note(what: str) -> None:
        ran.append(what)

    from datetime import UTC

    await docket.add(note, when=datetime(1, 1, 1, tzinfo=UTC))("the year 1")
    await docket.add(note, when=datetime(1969, 12, 31, tzinfo=UTC))("before 1970")
    far = datetime.max.replace(tzinfo=UTC)
    await docket.add(note, when=far, key="far")("the year 9999")
    async with running(docket):
        await until(lambda: len(ran) == 2)
        assert {each.key for each in (await docket.snapshot()).future} == {"far"}
        execution = await docket.get_execution("far")
        assert execution is not None and execution.when == far
    await docket.clear()
    await work_off(docket)
    assert ran == ["the year 1", "before 1970"]
