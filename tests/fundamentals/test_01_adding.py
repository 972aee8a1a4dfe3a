"""A task is a function; adding it to a docket has it called somewhere else."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

import pytest

from docket import Docket, Execution, ExecutionState, Worker


async def test_a_function_that_was_added_is_called_by_a_worker(docket_name: str, redis_url: str):
    """`docket.add(function)(arguments)` says what is to be done; a worker does it."""
    greeted: list[str] = []

    async def greet(name: str, greeting: str = "Hello") -> None:
        greeted.append(f"{greeting}, {name}!")

    async with Docket(name=docket_name, url=redis_url) as docket:
        await docket.add(greet)("Jane")
        await docket.add(greet)("John", greeting="Howdy")

        async with Worker(docket) as worker:
            await worker.run_until_finished()

    assert sorted(greeted) == ["Hello, Jane!", "Howdy, John!"]


async def test_adding_gives_an_execution(docket: Docket, work):
    """What comes back is the execution: its key, its task and its state."""

    async def greet(name: str) -> None: ...

    execution = await docket.add(greet)("Jane")
    assert isinstance(execution, Execution)
    assert execution.key
    assert execution.function_name == "greet"
    assert execution.args == ("Jane",)
    assert execution.state is ExecutionState.QUEUED

    await work()
    await execution.sync()
    assert execution.state is ExecutionState.COMPLETED


async def test_an_execution_remembers_when_it_was_run_and_by_whom(docket: Docket):
    """After `sync()` the timestamps and the worker's name are there."""

    async def greet() -> None: ...

    execution = await docket.add(greet)()
    async with Worker(docket, name="the worker") as worker:
        await worker.run_until_finished()

    await execution.sync()
    assert execution.worker == "the worker"
    assert isinstance(execution.started_at, datetime) and isinstance(execution.completed_at, datetime)
    assert execution.when <= execution.started_at <= execution.completed_at
    assert execution.completed_at - execution.started_at < timedelta(seconds=5)


async def test_plain_functions_are_tasks_as_well(docket: Docket, work):
    """A `def` task runs on a thread of the worker, so it may block."""
    ran: list[str] = []

    def write(text: str) -> None:
        ran.append(text)

    await docket.add(write)("something")
    await work()
    assert ran == ["something"]


async def test_a_wrong_call_is_refused_where_it_is_made(docket: Docket):
    """Arguments are checked against the signature: the mistake shows at the caller, not on a worker."""

    async def greet(name: str) -> None: ...

    with pytest.raises(TypeError, match="greet"):
        await docket.add(greet)()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="greet"):
        await docket.add(greet)("Jane", nickname="J")  # type: ignore[call-arg]
    assert (await docket.snapshot()).total_tasks == 0


async def test_arguments_that_cannot_travel_are_refused_by_name(docket: Docket):
    """What cannot be pickled fails at the caller, and the message names the parameter."""

    async def guard(name: str, lock: object) -> None: ...

    with pytest.raises(TypeError, match="'lock'"):
        await docket.add(guard)("this", threading.Lock())


async def test_a_docket_must_be_open(docket_name: str, redis_url: str):
    """Forgetting `async with` is told in a sentence."""

    async def greet() -> None: ...

    with pytest.raises(RuntimeError, match="async with"):
        await Docket(docket_name, redis_url).add(greet)()
