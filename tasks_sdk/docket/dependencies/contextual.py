"""What a task can ask to be given of its surroundings.

What is called here is typed as what the task will receive, so that a checker sees the injected type. Where sync tasks
receive a blocking skin, that type is both: the parameter's own annotation says which one it is.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from docket.dependencies.base import Dependency

if TYPE_CHECKING:
    from docket import sync
    from docket.docket import Docket
    from docket.execution import Execution
    from docket.progress import ExecutionProgress
    from docket.worker import Worker

    class EitherDocket(Docket, sync.Docket):  # pyright: ignore
        """In an async task the first, in a sync task the second."""

    class EitherExecution(Execution, sync.Execution):  # pyright: ignore
        """In an async task the first, in a sync task the second."""

    class EitherProgress(ExecutionProgress, sync.ExecutionProgress):  # pyright: ignore
        """In an async task the first, in a sync task the second."""


class AmbientDocket(Dependency):
    """The docket that the task runs on; in a sync task its blocking skin."""


class AmbientWorker(Dependency):
    """The worker that runs the task."""


class AmbientExecution(Dependency):
    """The execution itself; in a sync task its blocking skin."""


class AmbientKey(Dependency):
    """The key of the execution."""


class AmbientLogger(Dependency):
    """A logger that says which task, key and worker speaks."""


class AmbientProgress(Dependency):
    """The progress of the execution; in a sync task its blocking skin."""


def CurrentDocket() -> EitherDocket:
    """The docket that this task runs on. A sync task is given a `docket.sync.Docket`."""
    return cast("EitherDocket", AmbientDocket())


def CurrentWorker() -> Worker:
    """The worker that runs this task."""
    return cast("Worker", AmbientWorker())


def CurrentExecution() -> EitherExecution:
    """This execution. A sync task is given a `docket.sync.Execution`."""
    return cast("EitherExecution", AmbientExecution())


if TYPE_CHECKING:

    class Progress(EitherProgress):
        """How this execution reports how far it has come. A sync task is given a `docket.sync.ExecutionProgress`."""

        def __init__(self) -> None: ...

else:

    class Progress(AmbientProgress):
        """A class, because people also write `progress: Progress = Progress()`."""


def TaskKey() -> str:
    """The key of this execution."""
    return cast(str, AmbientKey())


def TaskLogger() -> logging.LoggerAdapter[logging.Logger]:
    """A logger named after the task, whose records carry docket, worker, task, key, when and attempt."""
    return cast("logging.LoggerAdapter[logging.Logger]", AmbientLogger())
