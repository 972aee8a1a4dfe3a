"""What a task states about itself in its signature. What the statements do is in the runtime."""

from docket.context import current_docket, current_execution, current_worker
from docket.dependencies.base import Dependency
from docket.dependencies.contextual import (
    CurrentDocket,
    CurrentExecution,
    CurrentWorker,
    Progress,
    TaskKey,
    TaskLogger,
)
from docket.dependencies.functional import CallArgument, DependencyFunction, Depends, Shared, TaskArgument
from docket.dependencies.introspection import (
    get_annotation_dependencies,
    get_dependency_parameters,
    get_single_dependency_of_type,
    get_single_dependency_parameter_of_type,
)
from docket.dependencies.limits import ConcurrencyLimit, ConflictResolution, Cooldown, Debounce, RateLimit
from docket.dependencies.perpetual import Cron, Perpetual
from docket.dependencies.retry import ExponentialRetry, Retry
from docket.dependencies.strategies import LIMIT_BY, ConcurrencyStrategy
from docket.dependencies.timeout import Timeout
from docket.errors import CycleError, ForcedRetry

__all__ = [
    "LIMIT_BY",
    "ConcurrencyLimit",
    "ConcurrencyStrategy",
    "ConflictResolution",
    "Cooldown",
    "Debounce",
    "RateLimit",
    "CallArgument",
    "Cron",
    "Perpetual",
    "Progress",
    "Timeout",
    "CurrentDocket",
    "CurrentExecution",
    "CurrentWorker",
    "CycleError",
    "Dependency",
    "DependencyFunction",
    "Depends",
    "ExponentialRetry",
    "ForcedRetry",
    "Retry",
    "Shared",
    "TaskArgument",
    "TaskKey",
    "TaskLogger",
    "get_annotation_dependencies",
    "get_dependency_parameters",
    "get_single_dependency_of_type",
    "get_single_dependency_parameter_of_type",
    "current_docket",
    "current_execution",
    "current_worker",
]
