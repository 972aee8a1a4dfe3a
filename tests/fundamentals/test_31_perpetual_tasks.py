"""Tasks that follow themselves, for as long as they like."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest

from docket import Cron, Docket, ExecutionState, Perpetual, Retry, Worker

TICK = timedelta(milliseconds=20)


async def run_at_most(docket: Docket, times: Mapping[str, int]) -> None:
    async with Worker(docket) as worker:
        await asyncio.wait_for(worker.run_at_most(times), 10)


async def test_a_perpetual_task_schedules_itself_again(docket: Docket) -> None:
    """`every` counts from the beginning of a run; the key and the arguments stay."""
    began: list[tuple[str, datetime]] = []

    async def poll(url: str, perpetual: Perpetual = Perpetual(every=TICK)) -> None:
        began.append((url, datetime.now(UTC)))

    await docket.add(poll, key="poll")("https://example.com")
    await run_at_most(docket, {"poll": 3})
    assert [url for url, _ in began] == ["https://example.com"] * 3
    assert all(later - earlier >= TICK * 0.9 for (_, earlier), (_, later) in pairwise(began))


async def test_it_goes_on_after_a_failure(docket: Docket) -> None:
    """After its retries, if it has any."""
    attempts: list[int] = []

    async def sync(perpetual: Perpetual = Perpetual(every=TICK), retry: Retry = Retry(attempts=2)) -> None:
        attempts.append(retry.attempt)
        raise ValueError

    await docket.add(sync, key="sync")()
    await run_at_most(docket, {"sync": 4})
    assert attempts == [1, 2, 1, 2]


async def test_it_may_end_itself(docket: Docket) -> None:
    """The last run's result is kept like anybody's."""
    left = [2, 1, 0]

    def watch(perpetual: Perpetual = Perpetual(every=TICK)) -> str:
        if not left.pop(0):
            perpetual.cancel()
        return "done"

    execution = await docket.add(watch)()
    async with Worker(docket) as worker:
        await asyncio.wait_for(worker.run_until_finished(), 10)
    assert left == []
    assert await execution.get_result() == "done"


async def test_it_may_change_the_arguments_and_the_pace_of_the_next_run(docket: Docket) -> None:
    seen: list[int] = []

    async def adapt(rate: int, perpetual: Perpetual = Perpetual(every=timedelta(hours=1))) -> None:
        seen.append(rate)
        perpetual.every = TICK
        perpetual.perpetuate(rate + 1)
        if rate == 3:
            perpetual.cancel()

    await docket.add(adapt)(1)
    async with Worker(docket) as worker:
        await asyncio.wait_for(worker.run_until_finished(), 10)
    assert seen == [1, 2, 3]


async def test_an_automatic_task_needs_nobody_to_add_it(docket: Docket) -> None:
    """Workers that know it see to it, under its own name as the key; however many there are, it is one chain."""
    runs, inside, most = 0, 0, 0
    enough = asyncio.Event()

    async def clean_up(perpetual: Perpetual = Perpetual(every=TICK, automatic=True)) -> None:
        nonlocal runs, inside, most
        runs, inside = runs + 1, inside + 1
        most = max(most, inside)
        await asyncio.sleep(0.005)
        inside -= 1
        if runs >= 4:
            enough.set()

    docket.register(clean_up)
    async with Worker(docket, name="a") as a, Worker(docket, name="b") as b:
        both = [asyncio.create_task(worker.run_forever()) for worker in (a, b)]
        await asyncio.wait_for(enough.wait(), 10)
        assert [each.key for each in (await docket.snapshot()).future] in (["clean_up"], [])
        for each in both:
            each.cancel()
        await asyncio.gather(*both, return_exceptions=True)
    assert most == 1
    await docket.cancel("clean_up")


def test_an_automatic_task_cannot_have_arguments_that_nobody_passes() -> None:
    async def clean_up(folder: str, perpetual: Perpetual = Perpetual(automatic=True)) -> None: ...

    with pytest.raises(ValueError, match="'folder'"):
        Docket().register(clean_up)


async def test_cancelling_it_ends_the_chain(docket: Docket) -> None:
    async def poll(perpetual: Perpetual = Perpetual(every=timedelta(hours=1))) -> None: ...

    execution = await docket.add(poll)()
    async with Worker(docket) as worker:
        running = asyncio.create_task(worker.run_forever())
        async with asyncio.timeout(5):
            while execution.state is not ExecutionState.SCHEDULED:
                await execution.sync()
        await docket.cancel(execution.key)
        await asyncio.wait_for(worker_is_idle(docket), 5)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    await execution.sync()
    assert execution.state is ExecutionState.CANCELLED


async def worker_is_idle(docket: Docket) -> None:
    while (await docket.snapshot()).total_tasks:
        await asyncio.sleep(0.01)


def test_cron_expressions_name_moments_in_a_time_zone() -> None:
    """Five fields or a nickname; a mistake is told where it is made."""
    tokyo = timezone(timedelta(hours=9))
    at_nine = Cron("0 9 * * *", tz=tokyo).next_time()
    assert at_nine.astimezone(tokyo).hour == 9
    assert at_nine > datetime.now(UTC)
    assert Cron("@hourly").next_time().minute == 0
    with pytest.raises(Exception, match=r"[Bb]ad"):
        Cron("61 * * * *")


async def test_a_cron_task_waits_for_its_time(docket: Docket) -> None:
    """It starts by itself, and not before the first moment that its expression names."""

    async def report(cron: Cron = Cron("0 0 1 1 *")) -> None: ...

    docket.register(report)
    async with Worker(docket) as worker:
        running = asyncio.create_task(worker.run_forever())
        async with asyncio.timeout(5):
            while not (parked := (await docket.snapshot()).future):
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    (execution,) = parked
    assert execution.key == "report"
    assert (execution.when.month, execution.when.day) == (1, 1)
    await docket.cancel("report")
