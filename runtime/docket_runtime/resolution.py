"""Dependencies opened before a task's body and closed after it.

`OPENERS` is the conduct of the statements in `docket.dependencies`: one function for each kind, given the opening that
is going on. A statement that needs closing enters itself on the opening's exit stack.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from docket import sync
from docket.dependencies.base import Dependency
from docket.dependencies.contextual import (
    AmbientDocket,
    AmbientExecution,
    AmbientKey,
    AmbientLogger,
    AmbientWorker,
)
from docket.dependencies.retry import Retry
from docket.execution import Execution, ExecutionView
from docket.registry import Task

if TYPE_CHECKING:
    from docket_runtime.worker import Worker


class TaskLoggerAdapter(logging.LoggerAdapter[logging.Logger]):
    """Adds the task's context to every record, beside what the call itself passes as `extra`."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


@dataclass(slots=True)
class Opening:
    """What one execution's dependencies are opened with, and what was opened so far."""

    worker: Worker
    task: Task
    execution: Execution
    stack: AsyncExitStack | None = None
    retry: Retry | None = None

    async def close(self, error: BaseException | None) -> None:
        """In reverse order of opening; they see how the body ended."""
        if self.stack is not None:
            stack, self.stack = self.stack, None
            await stack.__aexit__(
                type(error) if error else None, error, error.__traceback__ if error else None
            )


def _docket(opening: Opening) -> Any:
    return opening.worker.docket if opening.task.is_async else opening.worker.blocking_docket


def _execution(opening: Opening) -> ExecutionView:
    if opening.task.is_async:
        return opening.execution
    source = opening.execution
    view = sync.Execution(
        opening.worker.blocking_docket,
        source.key,
        source.function_name,
        source.when,
        arguments=(source.args, source.kwargs),
        state=source.state,
        generation=source.generation,
    )
    for name in ("attempt", "redelivered", "crashes", "worker", "started_at", "message_id"):
        setattr(view, name, getattr(source, name))
    return view


def _logger(opening: Opening) -> TaskLoggerAdapter:
    execution = opening.execution
    return TaskLoggerAdapter(
        logging.getLogger(f"docket.task.{execution.function_name}"),
        {
            "docket": opening.worker.docket.name,
            "worker": opening.worker.name,
            "task": execution.function_name,
            "key": execution.key,
            "when": execution.when.isoformat(),
            "attempt": execution.attempt,
        },
    )


def _retry(opening: Opening, statement: Retry) -> Retry:
    opening.retry = statement.for_attempt(opening.execution.attempt)
    return opening.retry


def _worker(opening: Opening) -> Worker:
    return opening.worker


def _key(opening: Opening) -> str:
    return opening.execution.key


OPENERS: Mapping[type[Dependency], Callable[[Opening, Any], Any]] = {
    AmbientDocket: lambda opening, _: _docket(opening),
    AmbientWorker: lambda opening, _: _worker(opening),
    AmbientExecution: lambda opening, _: _execution(opening),
    AmbientKey: lambda opening, _: _key(opening),
    AmbientLogger: lambda opening, _: _logger(opening),
    Retry: _retry,
}


def _opener_of(statement: Dependency) -> Callable[[Opening, Any], Any]:
    for kind in type(statement).__mro__:
        opener = OPENERS.get(kind)
        if opener is not None:
            return opener
    raise TypeError(f"nobody here knows what to do with a {type(statement).__name__}")


def resolve(opening: Opening, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments with everything injected that the caller has not passed."""
    given = opening.task.parameters[: len(args)]
    values = kwargs
    for name, statement in opening.task.injected.items():
        if name in kwargs or name in given:
            if isinstance(kwargs.get(name), Retry):
                opening.retry = kwargs[name]
            continue
        if values is kwargs:
            values = dict(kwargs)
        values[name] = _opener_of(statement)(opening, statement)
    return values
