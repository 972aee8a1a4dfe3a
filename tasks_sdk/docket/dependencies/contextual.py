"""What a task can ask to be given of its surroundings.

The functions are typed as what the task will receive, so that a checker sees the injected type.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from docket.dependencies.base import Dependency

if TYPE_CHECKING:
    from docket.docket import Docket
    from docket.execution import Execution
    from docket.progress import ExecutionProgress


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


def CurrentDocket() -> Docket:
    """The docket that this task runs on. A sync task is given a `docket.sync.Docket`."""
    return cast("Docket", AmbientDocket())


def CurrentWorker() -> Any:
    """The worker that runs this task."""
    return AmbientWorker()


def CurrentExecution() -> Execution:
    """This execution. A sync task is given a `docket.sync.Execution`."""
    return cast("Execution", AmbientExecution())


def Progress() -> ExecutionProgress:
    """How this execution reports how far it has come. A sync task is given a `docket.sync.ExecutionProgress`."""
    return cast("ExecutionProgress", AmbientProgress())


def TaskKey() -> str:
    """The key of this execution."""
    return cast(str, AmbientKey())


def TaskLogger() -> logging.LoggerAdapter[logging.Logger]:
    """A logger named after the task, whose records carry docket, worker, task, key, when and attempt."""
    return cast("logging.LoggerAdapter[logging.Logger]", AmbientLogger())
