"""What a task can be given of its surroundings, and how its statements are treated: one function for each kind.

The conduct of the declarations in `docket.dependencies`. A kind that is not here is either a function of the user's
(`resolution` opens it) or an asynchronous context manager of the user's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from docket import sync
from docket.dependencies.base import Dependency
from docket.dependencies.contextual import (
    AmbientDocket,
    AmbientExecution,
    AmbientKey,
    AmbientLogger,
    AmbientProgress,
    AmbientWorker,
)
from docket.dependencies.limits import Admission
from docket.dependencies.perpetual import Perpetual
from docket.dependencies.retry import Retry
from docket.dependencies.timeout import Timeout
from docket.execution import ExecutionView
from docket.progress import ProgressView
from docket_runtime.limits import TimeLimit

if TYPE_CHECKING:
    from docket_runtime.resolution import Opening
    from docket_runtime.worker import Worker


Opener: TypeAlias = "Callable[[Opening, Any, bool], Any]"
"""Given the statement, and whether whoever asks runs in the thread of a sync task."""


class TaskLoggerAdapter(logging.LoggerAdapter[logging.Logger]):
    """Adds the task's context to every record, beside what the call itself passes as `extra`."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


def context_of(execution: ExecutionView) -> dict[str, Any]:
    """What every record about an execution carries."""
    return {
        "docket": execution.docket.name,
        "worker": execution.worker,
        "task": execution.function_name,
        "key": execution.key,
        "when": execution.when.isoformat(),
        "attempt": execution.attempt,
    }


def _docket(opening: Opening, statement: Dependency, blocking: bool) -> Any:
    return opening.worker.blocking_docket if blocking else opening.worker.docket


def _worker(opening: Opening, statement: Dependency, blocking: bool) -> Worker:
    return opening.worker


def _execution(opening: Opening, statement: Dependency, blocking: bool) -> ExecutionView:
    if not blocking:
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


def _progress(opening: Opening, statement: Dependency, blocking: bool) -> ProgressView:
    execution = opening.execution
    if not blocking:
        return execution.progress
    return sync.ExecutionProgress(opening.worker.blocking_docket, execution.key, execution.message_id)


def _key(opening: Opening, statement: Dependency, blocking: bool) -> str:
    return opening.execution.key


def _logger(opening: Opening, statement: Dependency, blocking: bool) -> TaskLoggerAdapter:
    execution = opening.execution
    return TaskLoggerAdapter(
        logging.getLogger(f"docket.task.{execution.function_name}"), context_of(execution)
    )


def _retry(opening: Opening, statement: Retry, blocking: bool) -> Retry:
    opening.retry = statement.for_attempt(opening.execution.attempt)
    return opening.retry


def _perpetual(opening: Opening, statement: Perpetual, blocking: bool) -> Perpetual:
    opening.perpetual = statement.for_run()
    return opening.perpetual


def _timeout(opening: Opening, statement: Timeout, blocking: bool) -> Timeout:
    opening.time_limit = TimeLimit(statement, opening.expire)
    return opening.time_limit.timeout


def _limit(opening: Opening, statement: Admission, blocking: bool) -> Admission:
    for limit in opening.task.limits:
        if limit.statement is statement:
            return statement.for_run(opening.limit_names.get(limit.parameter))
    return statement


AMBIENT: Mapping[type[Dependency], Opener] = {
    AmbientDocket: _docket,
    AmbientWorker: _worker,
    AmbientExecution: _execution,
    AmbientKey: _key,
    AmbientLogger: _logger,
    AmbientProgress: _progress,
    Retry: _retry,
    Perpetual: _perpetual,
    Timeout: _timeout,
    Admission: _limit,
}


def opener_of(statement: Dependency) -> Opener | None:
    """The function for this kind of statement, or for the nearest kind that it is derived from."""
    for kind in type(statement).__mro__:
        opener = AMBIENT.get(kind)
        if opener is not None:
            return opener
    return None
