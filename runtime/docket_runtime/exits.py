"""Why `sys.exit()` inside a task ends the task only.

asyncio lets SystemExit and KeyboardInterrupt of *any* of its tasks leave the event loop. The runtime catches them
around a task's body; but a body may start asyncio tasks of its own (`gather`, a task group), and theirs would end the
worker.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from types import FunctionType
from typing import Any, cast

from docket import stacks
from docket.context import current_execution
from docket_runtime import places

Factory = Callable[..., "asyncio.Future[Any]"]


class ExitedInside(Exception):
    """An asyncio task that a docket task had started called for the end of the process."""


async def _contained(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await coroutine
    except (SystemExit, KeyboardInterrupt) as error:
        raise ExitedInside(f"{type(error).__name__}: {error}") from error


Contained = Callable[[Coroutine[Any, Any, Any]], Coroutine[Any, Any, Any]]


@functools.lru_cache(maxsize=4096)
def _contained_in(place: int | None) -> Contained:
    """The same function under the name that tells the execution's place: what it starts is part of it."""
    if place is None:
        return _contained
    return cast(Contained, FunctionType(stacks.in_place(_contained.__code__, place), globals()))


class ContainingFactory:
    """A task factory that wraps what is started from within an execution, and passes on to the one before it."""

    def __init__(self, before: Factory | None) -> None:
        self.before = before
        self.users = 0

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Future[Any]:
        if current_execution.get(None) is not None and asyncio.iscoroutine(coroutine):
            coroutine = _contained_in(places.current.get())(coroutine)
        if self.before is not None:
            return self.before(loop, coroutine, **options)
        return asyncio.Task(coroutine, loop=loop, **options)


def contain(loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """From now on exits are contained on this loop; call the result when that is no longer needed."""
    current: Any = loop.get_task_factory()
    factory = current if isinstance(current, ContainingFactory) else ContainingFactory(current)
    if factory is not current:
        loop.set_task_factory(factory)  # pyright: ignore[reportArgumentType] - typeshed wants a Task, asyncio takes a Future
    factory.users += 1

    def release() -> None:
        factory.users -= 1
        if not factory.users and loop.get_task_factory() is factory:
            loop.set_task_factory(factory.before)  # pyright: ignore[reportArgumentType]

    return release
