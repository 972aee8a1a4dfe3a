"""Promises of the public API that no single source file keeps."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Annotated, Any

import pytest

import docket as front_door
from docket import (
    ConcurrencyLimit,
    Docket,
    Logged,
    Perpetual,
    Retry,
    TaskFailed,
    Timeout,
    Worker,
    shield,
)
from docket.errors import RemoteTraceback
from tests.runtime.support import NO_TIME, SHORT, Gate, now, running, soon, until, work_off

LIMIT = timedelta(seconds=8)
LONG = timedelta(seconds=30)


def test_what_the_api_adds_to_the_reference_is_at_the_front_door():
    added = {"LIMIT_BY", "ConcurrencyStrategy", "ConflictResolution", "shield", "check_cancelled", "tasks"}
    assert added <= set(front_door.__all__)


# --- sync and async tasks get all of it alike -----------------------------------------------------------------------


class OutOfPaper(Exception):
    def __init__(self, printer: str, tray: int) -> None:
        super().__init__("there is none")
        self.where = (printer, tray)


class Told:
    """What the tasks below have seen."""

    def __init__(self) -> None:
        self.attempts: list[int] = []
        self.turns: list[int] = []


def async_tasks(told: Told) -> Mapping[str, Callable[..., Any]]:
    async def gives(customer: Annotated[str, Logged], card: str) -> dict[str, str]:
        return {customer: card}

    async def fails() -> None:
        raise OutOfPaper("upstairs", 2)

    async def retries(retry: Retry = Retry(attempts=3)) -> None:
        told.attempts.append(retry.attempt)
        if retry.attempt == 1:
            retry.after(NO_TIME)
        raise ValueError(retry.attempt)

    async def goes_on(turn: int, perpetual: Perpetual = Perpetual()) -> int:
        told.turns.append(turn)
        perpetual.perpetuate(turn + 1)
        if turn == 3:
            perpetual.cancel()
        return turn

    async def is_slow(timeout: Timeout = Timeout(timedelta(milliseconds=60))) -> None:
        while True:
            await asyncio.sleep(0.005)

    async def exits() -> None:
        raise SystemExit(3)

    async def cannot_travel() -> Any:
        return asyncio.get_running_loop()

    return {f.__name__: f for f in (gives, fails, retries, goes_on, is_slow, exits, cannot_travel)}


def sync_tasks(told: Told) -> Mapping[str, Callable[..., Any]]:
    import threading
    import time

    def gives(customer: Annotated[str, Logged], card: str) -> dict[str, str]:
        return {customer: card}

    def fails() -> None:
        raise OutOfPaper("upstairs", 2)

    def retries(retry: Retry = Retry(attempts=3)) -> None:
        told.attempts.append(retry.attempt)
        if retry.attempt == 1:
            retry.after(NO_TIME)
        raise ValueError(retry.attempt)

    def goes_on(turn: int, perpetual: Perpetual = Perpetual()) -> int:
        told.turns.append(turn)
        perpetual.perpetuate(turn + 1)
        if turn == 3:
            perpetual.cancel()
        return turn

    def is_slow(timeout: Timeout = Timeout(timedelta(milliseconds=60))) -> None:
        while True:
            time.sleep(0.005)

    def exits() -> None:
        raise SystemExit(3)

    def cannot_travel() -> Any:
        return threading.Lock()

    return {f.__name__: f for f in (gives, fails, retries, goes_on, is_slow, exits, cannot_travel)}


@pytest.mark.parametrize("tasks", [async_tasks, sync_tasks], ids=["async", "sync"])
async def test_every_promise_holds_for_both_kinds_of_tasks(
    tasks: Callable[[Told], Mapping[str, Callable[..., Any]]],
    docket: Docket,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.INFO, "docket")
    told = Told()
    functions = tasks(told)
    arguments: Mapping[str, tuple[Any, ...]] = {"gives": ("jane", "4111 1111"), "goes_on": (1,)}
    executions = {
        name: await docket.add(function, key=name)(*arguments.get(name, ()))
        for name, function in functions.items()
    }
    await work_off(docket)

    assert await executions["gives"].get_result() == {"jane": "4111 1111"}
    lines = [message for message in caplog.messages if "gives('jane', ...){gives}" in message]
    assert len(lines) == 2 and lines[0].startswith("↪") and lines[1].startswith("↩")
    assert "4111" not in caplog.text

    with pytest.raises((OutOfPaper, TaskFailed), match="there is none") as failure:
        await executions["fails"].get_result()
    assert isinstance(failure.value.__cause__, RemoteTraceback) and "in fails" in str(failure.value.__cause__)

    with pytest.raises(ValueError, match="3"):
        await executions["retries"].get_result()
    assert told.attempts == [1, 2, 3]

    assert await executions["goes_on"].get_result() == 3
    assert told.turns == [1, 2, 3]

    for name, expected in (("is_slow", TimeoutError), ("exits", SystemExit), ("cannot_travel", Exception)):
        await executions[name].sync()
        assert executions[name].state == "failed"
        with pytest.raises(expected):
            await executions[name].get_result()


# --- nothing is lost, and everything is seen ------------------------------------------------------------------------


async def test_what_runs_while_everything_is_cleared_is_not_orphaned(
    docket: Docket, docket_name: str, redis_url: str
):
    """Its worker dies afterwards: it is redelivered all the same, and its key is free in the end."""
    first = Gate()
    runs: list[bool] = []

    async def body() -> str:
        runs.append(True)
        if len(runs) == 1:
            await first()
        return "done"

    async with running(docket, name="dying", redelivery_timeout=SHORT) as dying:
        execution = await docket.add(body, key="k")()
        await first.has_begun()
        await docket.add(body, when=soon(seconds=60))()
        assert await docket.clear() == 1
        assert [each.key for each in (await docket.snapshot()).running] == ["k"]
        dying.desks[0].keeper.close()  # from now on nobody hears of it
        async with Docket(docket_name, redis_url) as other:
            other.register(body)
            async with running(other, name="heir", redelivery_timeout=SHORT, concurrency=1):
                assert await execution.get_result(timeout=LIMIT) == "done"
        first.open.set()
        again = await docket.add(body, key="k")()
        assert again.disposition == "scheduled"
        assert await again.get_result(timeout=LIMIT) == "done"


READ: list[str] = []


class Tale:
    """Tells when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        return (_read, ())


def _read() -> Tale:
    READ.append("read")
    return Tale()


async def test_a_snapshot_shows_everything_and_opens_nothing(
    docket: Docket, docket_name: str, redis_url: str
):
    gate = Gate()

    async def limited(tale: Tale, limit: ConcurrencyLimit = ConcurrencyLimit(max_concurrent=1)) -> None:
        await gate()

    async def plain(tale: Tale) -> None: ...

    async def slow(tale: Tale) -> None:
        await gate()

    await docket.add("nobody_knows", key="dead")(Tale())
    await work_off(docket)
    async with running(docket, concurrency=2):
        await docket.add(limited, key="running")(Tale())
        await gate.has_begun()
        await docket.add(limited, key="behind a limit")(Tale())
        await docket.add(slow, key="running too")(Tale())
        await gate.has_begun()
        await docket.add(plain, key="queued")(Tale())
        await docket.add(plain, when=now() + LONG, key="parked")(Tale())
        READ.clear()
        async with Docket(docket_name, redis_url) as stranger:  # which has registered none of this
            snapshot = await stranger.snapshot()
            assert {each.key for each in snapshot.running} == {"running", "running too"}
            assert {each.key for each in snapshot.future} == {"behind a limit", "queued", "parked"}
            assert {each.key for each in snapshot.dead} == {"dead"}
            assert snapshot.total_tasks == 5
            assert READ == []
            assert isinstance(snapshot.dead[0].args[0], Tale) and READ == ["read"]
        gate.open.set()
        await docket.cancel("parked")
        await until(lambda: gate.inside == 0)
    await work_off(docket)
    await docket.purge_dead()


# --- workers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "run",
    [Worker.run_forever, Worker.run_until_finished, lambda worker: worker.run_at_most({"k": 1})],
    ids=["run_forever", "run_until_finished", "run_at_most"],
)
async def test_whatever_run_is_cancelled_drains_and_raises(
    run: Callable[[Worker], Awaitable[None]], docket: Docket
):
    gate = Gate()
    docket.register(gate, names=["gate"])
    execution = await docket.add("gate", key="k")("done")
    async with Worker(docket) as worker:
        task = asyncio.ensure_future(run(worker))
        await gate.has_begun()
        task.cancel()
        await asyncio.wait([task], timeout=0.05)
        assert not task.done(), "it drains"
        gate.open.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await execution.get_result(timeout=LIMIT) == "done"


@pytest.mark.measured
@pytest.mark.parametrize("interval", [timedelta(milliseconds=1), timedelta(minutes=5)], ids=["tiny", "huge"])
async def test_the_intervals_of_the_reference_are_only_upper_bounds(interval: timedelta, docket: Docket):
    """Nothing polls at them, and nothing waits for them."""
    began = asyncio.get_running_loop().time
    lateness: list[float] = []

    async def task(due: float) -> None:
        lateness.append(began() - due)

    async with running(
        docket, minimum_check_interval=interval, scheduling_resolution=interval, reconnection_delay=interval
    ) as worker:
        await until(lambda: worker.exchange.reading)
        await docket.add(task, when=soon(seconds=0.3))(began() + 0.3)
        async with docket.redis() as redis:
            before = int((await redis.info("stats"))["total_commands_processed"])
            await asyncio.sleep(0.25)
            sent = int((await redis.info("stats"))["total_commands_processed"]) - before
        assert sent <= 20
        await until(lambda: lateness)
    assert lateness[0] < 0.15


# --- outside of tasks -----------------------------------------------------------------------------------------------


def test_outside_of_a_task_nothing_is_cancelled_and_a_shield_does_nothing():
    front_door.check_cancelled()
    with shield():
        front_door.check_cancelled()


# --- adding ---------------------------------------------------------------------------------------------------------


async def test_a_task_that_seeds_the_random_module_adds_like_any_other(docket: Docket):
    """What tells a call from the same call sent again must not be a number that comes again."""
    ran: list[str] = []

    async def note(what: str) -> None:
        ran.append(what)

    for what in ("first", "second", "third"):
        random.seed(42)
        await docket.add(note, key="the same")(what)
        await work_off(docket)
    for what in ("old", "new"):
        random.seed(42)
        await docket.replace(note, soon(), "replaced")(what)
    await work_off(docket)
    assert ran == ["first", "second", "third", "new"]
