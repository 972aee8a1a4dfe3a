"""What a task states about itself in its signature. What the statements do is in the runtime."""

from docket.dependencies.base import Dependency
from docket.dependencies.contextual import (
    CurrentDocket,
    CurrentExecution,
    CurrentWorker,
    TaskKey,
    TaskLogger,
)
from docket.dependencies.retry import ExponentialRetry, Retry
from docket.errors import ForcedRetry

__all__ = [
    "CurrentDocket",
    "CurrentExecution",
    "CurrentWorker",
    "Dependency",
    "ExponentialRetry",
    "ForcedRetry",
    "Retry",
    "TaskKey",
    "TaskLogger",
]
