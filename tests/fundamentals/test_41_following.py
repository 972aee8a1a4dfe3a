"""Whoever wants to know what becomes of an execution need not ask again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from docket import Docket, ExecutionState, Perpetual, Progress, ResultUnavailable, Worker
from docket.execution import ExecutionProgress, ProgressEvent, StateEvent
from docket.sync import Docket as BlockingDocket

Work = Callable[[], Awaitable[None]]


async def test_events_tell_everything_from_now_to_the_end(docket: Docket) -> None:
    """`async for event in execution.subscribe()`: the state as it is, the progress as it is, then every change."""

    async def count(progress: ExecutionProgress = Progress()) -> None:
        await progress.set_total(2)
        await progress.increment(2)

    execution = await docket.add(count)()
    told: list[Any] = []

    async def monitor() -> None:
        async for event in execution.subscribe():
            if event["type"] == "state":
                told.append(event["state"])
            elif event["type"] == "progress":
                told.append(f"{event['current']}/{event['total']}")
            if len(told) == 2:
                caught_up.set()

    caught_up = asyncio.Event()
    monitoring = asyncio.create_task(monitor())
    await caught_up.wait()
    async with Worker(docket) as worker:
        await worker.run_until_finished()
    await asyncio.wait_for(monitoring, 5)
    assert told == [
        ExecutionState.QUEUED,
        "0/100",
        ExecutionState.RUNNING,
        "0/2",
        "2/2",
        ExecutionState.COMPLETED,
    ]


async def test_every_event_is_complete(docket: Docket) -> None:
    """All the documented fields are there each time, the first time included."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def fail(progress: ExecutionProgress = Progress()) -> None:
        begun.set()
        await go_on.wait()
        await progress.set_message("it does not look good")
        raise ValueError("on purpose")

    execution = await docket.add(fail, key="k")()
    async with Worker(docket, name="the worker") as worker:
        working = asyncio.create_task(worker.run_until_finished())
        await begun.wait()
        states: list[StateEvent] = []
        reports: list[ProgressEvent] = []
        async for event in execution.subscribe():
            if event["type"] == "state":
                states.append(event)
            else:
                reports.append(event)
            go_on.set()
        await working

    await execution.sync()
    assert execution.started_at is not None and execution.completed_at is not None
    running = {
        "type": "state",
        "key": "k",
        "state": ExecutionState.RUNNING,
        "when": execution.when.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "worker": "the worker",
        "started_at": execution.started_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "completed_at": None,
        "error": None,
    }
    failed = {
        **running,
        "state": ExecutionState.FAILED,
        "completed_at": execution.completed_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "error": "ValueError: on purpose",
    }
    assert states == [running, failed]
    nothing = {
        "type": "progress",
        "key": "k",
        "current": 0,
        "total": 100,
        "message": None,
        "updated_at": None,
    }
    assert reports[0] == nothing
    assert reports[1:] == [
        {**nothing, "message": "it does not look good", "updated_at": reports[1]["updated_at"]}
    ]


async def test_what_has_ended_already_is_told_once(docket: Docket, work: Work) -> None:
    """The end is the first event and the last."""
    execution = await docket.add("trace")("x")
    await work()
    assert [event["type"] async for event in execution.subscribe()] == ["state"]


async def test_one_may_wait_until_nothing_can_be_missed(docket: Docket, work: Work) -> None:
    """`ready` is set then; what happens from there on is told."""
    execution = await docket.add("trace")("x")
    ready = asyncio.Event()

    async def states() -> list[str]:
        return [
            event["state"] async for event in execution.subscribe(ready=ready) if event["type"] == "state"
        ]

    listening = asyncio.create_task(states())
    await asyncio.wait_for(ready.wait(), 5)
    await work()
    assert await asyncio.wait_for(listening, 5) == ["queued", "running", "completed"]


async def test_a_replaced_call_is_followed_by_the_one_that_replaces_it(docket: Docket, tomorrow: Any) -> None:
    """One follows the key, as with `get_result()`."""
    execution = await docket.add("trace", when=tomorrow, key="k")("x")
    whens: list[str] = []
    async for event in execution.subscribe():
        if event["type"] == "progress":
            await docket.replace("trace", None, "k")("y")
        else:
            whens.append(f"{event['state']} {event['when'][:10]}")
            if event["state"] == "queued":
                await docket.cancel("k")
    assert [when.partition(" ")[0] for when in whens] == ["scheduled", "queued", "cancelled"]
    assert whens[0].endswith(f"{tomorrow:%Y-%m-%d}") and not whens[1].endswith(f"{tomorrow:%Y-%m-%d}")


async def test_a_perpetual_task_is_followed_through_its_turns(docket: Docket) -> None:
    """Only when it ends for good there is nothing more to tell."""
    left = [2, 1, 0]

    async def turn(perpetual: Perpetual = Perpetual(), progress: ExecutionProgress = Progress()) -> None:
        await progress.increment()
        if not left.pop(0):
            perpetual.cancel()

    execution = await docket.add(turn)()
    states: list[str] = []
    ready = asyncio.Event()

    async def follow() -> None:
        async for event in execution.subscribe(ready=ready):
            states.append(event["state"] if event["type"] == "state" else str(event["current"]))

    following = asyncio.create_task(follow())
    await ready.wait()
    async with Worker(docket) as worker:
        await asyncio.wait_for(worker.run_until_finished(), 10)
    await asyncio.wait_for(following, 5)
    a_turn = ["running", "1"]
    assert states == ["queued", "0", *a_turn, "0", "queued", *a_turn, "0", "queued", *a_turn, "completed"]


async def test_where_nothing_will_come_it_is_said_at_once(docket: Docket) -> None:
    """Nobody waits for ever for an execution that has expired."""
    execution = await docket.add("trace", key="k")("x")
    await docket.clear()
    async with docket.redis() as redis:
        await redis.delete(docket.keys.runs("k"))
    with pytest.raises(ResultUnavailable, match="expired, or never existed"):
        async for _ in execution.subscribe():
            raise AssertionError("there is nothing to tell")


async def test_a_thread_can_follow_too(docket: Docket, docket_name: str, redis_url: str) -> None:
    """The same as a plain generator, from `docket.sync`."""

    async def count(progress: ExecutionProgress = Progress()) -> None:
        await progress.increment(3)

    await docket.add(count, key="k")()
    ready = asyncio.Event()
    loop = asyncio.get_running_loop()

    def follow() -> list[Any]:
        with BlockingDocket(docket_name, redis_url) as blocking:
            execution = blocking.get_execution("k")
            assert execution is not None
            told: list[Any] = []
            for event in execution.subscribe():
                told.append(event["state"] if event["type"] == "state" else event["current"])
                loop.call_soon_threadsafe(ready.set)
            return told

    following = asyncio.create_task(asyncio.to_thread(follow))
    await ready.wait()
    async with Worker(docket) as worker:
        await asyncio.wait_for(worker.run_until_finished(), 10)
    assert await asyncio.wait_for(following, 5) == ["queued", 0, "running", 3, "completed"]
