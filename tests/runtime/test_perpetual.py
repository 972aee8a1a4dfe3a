"""A perpetual task is one chain for each key, whatever races, and only ends when somebody says so."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from redis.exceptions import ResponseError

from docket import (
    Cron,
    CurrentDocket,
    Depends,
    Docket,
    ExecutionCancelled,
    ExecutionState,
    Perpetual,
    Retry,
    TaskKey,
    Timeout,
    testing,
)
from docket.execution import Execution
from docket.store import scripts
from docket_runtime.automatic import AutomaticTasks
from tests.runtime.support import NO_TIME, Gate, now, running, until, work_off

HOUR = timedelta(hours=1)
TICK = timedelta(milliseconds=5)
MOMENT = timedelta(milliseconds=50)


async def next_run(docket: Docket) -> Execution:
    (following,) = (await docket.snapshot()).future
    return following


# --- one chain ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [False, True], ids=["async", "sync"])
async def test_whoever_adds_replaces_and_cancels_there_is_one_body_and_one_successor(
    plain: bool, docket: Docket
):
    inside, most, runs = 0, 0, 0

    def enter() -> None:
        nonlocal inside, most, runs
        inside, runs = inside + 1, runs + 1
        most = max(most, inside)

    def leave() -> None:
        nonlocal inside
        inside -= 1

    async def coroutine(perpetual: Perpetual = Perpetual(every=NO_TIME)) -> None:
        enter()
        try:
            await asyncio.sleep(random.random() / 500)
        finally:
            leave()

    def function(perpetual: Perpetual = Perpetual(every=NO_TIME)) -> None:
        enter()
        leave()

    task = function if plain else coroutine
    rng = random.Random(7)

    async def meddle() -> None:
        for _ in range(60):
            match rng.randrange(4):
                case 0 | 1:
                    await docket.add(task, key="k")()
                case 2:
                    await docket.replace(task, now() + timedelta(milliseconds=rng.randrange(4)), "k")()
                case _:
                    await docket.cancel("k")
            await asyncio.sleep(rng.random() / 300)

    async with running(docket, name="a"), running(docket, name="b"), running(docket, name="c"):
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(meddle())
        await docket.replace(task, now(), "k")()
        before = runs
        await until(lambda: runs > before + 5)
        for _ in range(20):
            snapshot = await docket.snapshot()
            assert [each.key for each in (*snapshot.future, *snapshot.running)] == ["k"]
        await docket.cancel("k")
        async with asyncio.timeout(5):
            while (await docket.snapshot()).total_tasks:
                await asyncio.sleep(0.005)
    assert most == 1


async def test_a_superseded_run_does_not_schedule_a_successor(docket: Docket):
    seen: list[int] = []
    gate = Gate()

    async def task(number: int, perpetual: Perpetual = Perpetual(every=HOUR)) -> None:
        seen.append(number)
        if number == 1:
            await gate()

    async with running(docket):
        await docket.add(task, key="k")(1)
        await gate.has_begun()
        await docket.replace(task, now(), "k")(2)
        gate.open.set()
        await until(lambda: seen == [1, 2])
        async with asyncio.timeout(5):
            while [each.args for each in (await docket.snapshot()).future] != [(2,)]:
                await asyncio.sleep(0.005)
    await docket.cancel("k")


async def test_a_run_that_adds_its_own_key_is_followed_by_that_and_by_nothing_else(docket: Docket):
    async def task(
        n: int,
        key: str = TaskKey(),
        docket: Docket = CurrentDocket(),
        perpetual: Perpetual = Perpetual(every=NO_TIME),
    ) -> None:
        if n == 1:
            await docket.add(task, when=now() + HOUR, key=key)(2)

    await docket.add(task, key="k")(1)
    await testing.run_what_is_due(docket)
    following = await next_run(docket)
    assert following.args == (2,) and following.when > now() + HOUR / 2


async def test_many_workers_seed_an_automatic_task_once(docket: Docket):
    runs: list[datetime] = []

    async def seeded(perpetual: Perpetual = Perpetual(every=HOUR, automatic=True)) -> None:
        runs.append(now())

    docket.register(seeded)
    async with running(docket, name="a"), running(docket, name="b"), running(docket, name="c"):
        await until(lambda: runs)
        async with asyncio.timeout(5):
            while not [each for each in (await docket.snapshot()).future if each.state == "scheduled"]:
                await asyncio.sleep(0.005)
    assert len(runs) == 1 and (await next_run(docket)).key == "seeded"
    await docket.cancel("seeded")


async def test_a_dead_letter_of_an_automatic_task_stays_until_somebody_decides(
    docket: Docket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Or its workers would be killed by it for ever, and the cause would be gone each time."""
    looks, runs = 0, 0

    async def seeded(perpetual: Perpetual = Perpetual(every=HOUR, automatic=True)) -> None:
        nonlocal runs
        runs += 1

    class Watched(AutomaticTasks):
        async def _add(self, calls: Any) -> bool:
            nonlocal looks
            refused = await super()._add(calls)
            looks += 1
            return refused

    monkeypatch.setattr("docket_runtime.automatic._AGAIN", 0.01)
    monkeypatch.setattr("docket_runtime.worker.AutomaticTasks", Watched)
    docket.register(seeded)
    await docket.add(seeded, key="seeded")()
    await killed_while_running_everything(docket)
    async with running(docket):
        await until(lambda: looks >= 3)
    (dead,) = await docket.dead_letters()
    assert dead.key == "seeded" and "killed by signal 9" in (dead.error or "")
    assert caplog.text.count("the automatic task seeded is a dead letter") == 1
    assert runs == 0
    await docket.purge_dead()
    async with running(docket):
        await until(lambda: runs == 1)
    await docket.cancel("seeded")


async def test_a_server_that_is_busy_with_a_script_ends_no_worker(
    docket: Docket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """No outage, and none of our errors: what a worker runs would be run again if this ended it."""
    ran = asyncio.Event()

    async def seeded(perpetual: Perpetual = Perpetual(every=HOUR, automatic=True)) -> None:
        ran.set()

    docket.register(seeded)
    add_many, tried = docket.add_many, list[int]()

    async def busy(calls: Any) -> Any:
        tried.append(1)
        if len(tried) == 1:
            raise ResponseError("max requests limit exceeded")
        return await add_many(calls)

    monkeypatch.setattr(docket, "add_many", busy)
    async with running(docket):
        await asyncio.wait_for(ran.wait(), 5)
    assert "could not add the automatic tasks seeded: max requests limit exceeded" in caplog.text
    await docket.cancel("seeded")


async def test_whoever_adds_an_automatic_task_by_hand_decides(docket: Docket):
    async def seeded(perpetual: Perpetual = Perpetual(every=HOUR, automatic=True)) -> None: ...

    await docket.add(seeded, key="seeded")()
    await killed_while_running_everything(docket)
    await docket.add(seeded, key="seeded")()
    assert await docket.dead_letters() == []
    await docket.cancel("seeded")


async def killed_while_running_everything(docket: Docket) -> None:
    """A worker that claims all there is, and dies of it; once is too often."""
    for call in (
        scripts.enlist(
            docket.keys, "w/1", lease_ms=60_000, host="h", process="p", concurrency=1, tasks=("seeded",)
        ),
        scripts.exchange(
            docket.keys, "w/1", free=9, lanes="d", promote_most=0, census=False, settlements=(), deliveries=()
        ),
        scripts.hand_over(docket.keys, "w/1", "killed by signal 9", max_crashes=1, begun=None),
    ):
        await docket.store.ask(call)
    assert len(await docket.dead_letters()) == 1


async def test_waiters_of_a_perpetual_task_wait_for_its_end(docket: Docket):
    left = [3, 2, 1]

    async def task(perpetual: Perpetual = Perpetual(every=TICK)) -> int:
        n = left.pop(0)
        if not left:
            perpetual.cancel()
        return n

    execution = await docket.add(task)()
    await work_off(docket)
    assert await execution.get_result(timeout=timedelta(seconds=1)) == 1


# --- it goes on -----------------------------------------------------------------------------------------------------


async def leaked(_: Retry) -> None:
    """Something else was cancelled, and the task awaited it."""
    other = asyncio.ensure_future(asyncio.sleep(30))
    await asyncio.sleep(0)
    other.cancel()
    await other


async def fails(_: Retry) -> None:
    raise ValueError


async def leaves(_: Retry) -> None:
    raise SystemExit(1)


async def takes_too_long(_: Retry) -> None:
    await asyncio.sleep(30)


async def asks_to_be_tried_again(retry: Retry) -> None:
    retry.after(timedelta(0))


async def cannot_be_stored(_: Retry) -> Any:
    return Gate()


async def sets_nonsense(_: Retry) -> None:
    Perpetual().every = 5  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    "body",
    [fails, leaves, leaked, takes_too_long, asks_to_be_tried_again, cannot_be_stored, sets_nonsense],
    ids=lambda body: body.__name__,
)
async def test_however_a_run_ends_the_next_one_is_scheduled(body: Callable[[Retry], Any], docket: Docket):
    async def task(
        perpetual: Perpetual = Perpetual(every=HOUR),
        retry: Retry = Retry(attempts=1),
        timeout: Timeout = Timeout(MOMENT),
    ) -> Any:
        return await body(retry)

    await docket.add(task, key="k")()
    await testing.run_what_is_due(docket)
    following = await next_run(docket)
    assert following.key == "k" and timedelta(minutes=59) < following.when - now() < timedelta(minutes=61)
    await docket.cancel("k")


@pytest.mark.parametrize(
    "around", [None, [Retry(attempts=2)]], ids=["a dependency", "a conflict with the worker"]
)
async def test_it_goes_on_when_the_body_was_not_even_reached(around: Any, docket: Docket):
    def broken() -> None:
        if around is None:
            raise ConnectionError

    async def task(
        broken: None = Depends(broken),
        retry: Retry = Retry(attempts=1),
        perpetual: Perpetual = Perpetual(every=HOUR),
    ) -> None: ...

    await docket.add(task, key="k")()
    await testing.run_what_is_due(docket, dependencies=around)
    assert (await next_run(docket)).key == "k"
    await docket.cancel("k")


@pytest.mark.parametrize("worker_wide", [False, True], ids=["its own", "the worker's"])
@pytest.mark.parametrize("ends", [leaked, leaves], ids=lambda ends: ends.__name__)
async def test_it_goes_on_when_a_dependency_ended_the_opening_before_it_was_reached(
    ends: Callable[[Retry], Any], worker_wide: bool, docket: Docket
):
    async def token() -> None:
        await ends(Retry())

    async def own(token: None = Depends(token), perpetual: Perpetual = Perpetual(every=HOUR)) -> None: ...
    async def task(perpetual: Perpetual = Perpetual(every=HOUR)) -> None: ...

    await docket.add(task if worker_wide else own, key="k")()
    await testing.run_what_is_due(docket, dependencies=[Depends(token)] if worker_wide else None)
    assert (await next_run(docket)).key == "k"
    await docket.cancel("k")


async def test_a_run_that_was_told_to_be_the_only_one_stays_that_however_its_opening_ends(docket: Docket):
    async def token() -> None:
        await leaked(Retry())

    async def task(
        token: None = Depends(token), perpetual: Perpetual | None = Perpetual(every=HOUR)
    ) -> None: ...

    await docket.add(task, key="k")(perpetual=None)
    await testing.run_what_is_due(docket)
    assert not (await docket.snapshot()).future


async def test_new_arguments_that_do_not_fit_leave_the_old_ones(docket: Docket):
    async def task(n: int, perpetual: Perpetual = Perpetual(every=HOUR)) -> None:
        perpetual.perpetuate(n, 2, 3, 4)

    await docket.add(task, key="k")(1)
    await testing.run_what_is_due(docket)
    assert (await next_run(docket)).args == (1,)
    await docket.cancel("k")


async def test_what_a_run_changes_is_for_that_chain_and_that_time_only(docket: Docket):
    statement = Perpetual(every=HOUR)

    async def task(first: bool, perpetual: Perpetual = statement) -> None:
        if first:
            perpetual.after(timedelta(minutes=5))
            perpetual.perpetuate(False)

    await docket.add(task, key="k")(True)
    await testing.run_what_is_due(docket)
    assert timedelta(minutes=4) < (await next_run(docket)).when - now() < timedelta(minutes=6)
    await testing.advance(docket, timedelta(minutes=5))
    await testing.run_what_is_due(docket)
    assert timedelta(minutes=59) < (await next_run(docket)).when - now() < timedelta(minutes=61)
    assert statement.every == HOUR
    await docket.cancel("k")


# --- it ends --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["waiting", "running"])
async def test_a_cancellation_ends_it_for_whoever_waits(moment: str, docket: Docket):
    gate = Gate()

    async def task(perpetual: Perpetual = Perpetual(every=NO_TIME)) -> None:
        await gate()

    async with running(docket):
        execution = await docket.add(task, when=None if moment == "running" else now() + HOUR)()
        if moment == "running":
            await gate.has_begun()
        await docket.cancel(execution.key)
        with pytest.raises(ExecutionCancelled):
            await execution.get_result(timeout=timedelta(seconds=5))
        await execution.sync()
        assert execution.state is ExecutionState.CANCELLED
        gate.open.set()
    assert (await docket.snapshot()).total_tasks == 0


async def test_a_last_run_that_fails_has_failed(docket: Docket):
    async def task(perpetual: Perpetual = Perpetual(every=TICK)) -> None:
        perpetual.cancel()
        raise ValueError("the last one")

    execution = await docket.add(task)()
    await work_off(docket)
    with pytest.raises(ValueError, match="the last one"):
        await execution.get_result()


# --- moments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [5, "5", None])
def test_every_is_a_duration(every: Any):
    with pytest.raises(TypeError, match="expected every to be a timedelta"):
        Perpetual(every=every)
    with pytest.raises(ValueError, match="expected every to be zero or more, got -1 day"):
        Perpetual(every=-timedelta(days=1))


async def test_a_run_counts_from_when_it_was_due_if_the_clock_here_is_late(
    docket: Docket, monkeypatch: pytest.MonkeyPatch
):
    """A cron task on a machine that is two seconds late would otherwise be due at the same moment twice."""
    from docket import clock
    from docket_runtime import executor

    counted_from: list[datetime] = []

    class Late:
        def __getattr__(self, name: str) -> Any:
            return getattr(clock, name)

        @staticmethod
        def now() -> datetime:
            return clock.now() - timedelta(seconds=2)

    class Watched(Perpetual):
        def _following(self, began: datetime) -> datetime:
            counted_from.append(began)
            return began + HOUR

    async def task(perpetual: Perpetual = Watched()) -> None: ...

    monkeypatch.setattr(executor, "clock", Late())
    execution = await docket.add(task, key="k")()
    await testing.run_what_is_due(docket)
    assert counted_from == [execution.when]
    await docket.cancel("k")


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("began", "following"),
    [
        ("2026-03-28T12:00", "2026-03-29T03:00+02:00"),  # 2:30 does not exist in that night
        ("2026-03-29T03:00", "2026-03-30T02:30+02:00"),
        ("2026-10-24T12:00", "2026-10-25T02:30+02:00"),  # 2:30 comes twice, it runs once
        ("2026-10-25T02:30", "2026-10-26T02:30+01:00"),
        ("2026-07-01T02:29:59", "2026-07-01T02:30+02:00"),
        (
            "2026-07-01T02:30",
            "2026-07-02T02:30+02:00",
        ),  # its own moment does not follow a run that began on time
    ],
)
def test_cron_follows_the_clock_on_the_wall(began: str, following: str):
    cron = Cron("30 2 * * *", tz=BERLIN)
    due = cron.due_after(datetime.fromisoformat(began).replace(tzinfo=BERLIN))
    assert due == datetime.fromisoformat(following) and due.tzinfo is UTC


@pytest.mark.measured
async def test_a_cron_slot_that_passed_during_a_run_is_made_up_for_once(docket: Docket):
    runs: list[datetime] = []

    class OftenEnough(Cron):
        def _following(self, began: datetime) -> datetime:
            return datetime.fromtimestamp((began.timestamp() // 0.2 + 1) * 0.2, UTC)

    async def task(cron: Cron = OftenEnough("* * * * *", automatic=False)) -> None:
        runs.append(now())
        if len(runs) == 1:
            await asyncio.sleep(0.5)  # two of its moments pass
        else:
            cron.cancel()

    await docket.add(task, key="k")()
    await work_off(docket)
    assert len(runs) == 2 and timedelta(seconds=0.5) <= runs[1] - runs[0] < timedelta(seconds=0.6)
