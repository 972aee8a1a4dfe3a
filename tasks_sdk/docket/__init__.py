"""Run Python functions in the background, now or later, over Redis.

Every public name, loaded when somebody asks for it: a web server that only adds tasks never loads a worker.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from docket import tasks as tasks
    from docket import testing as testing
    from docket.agenda import Agenda as Agenda
    from docket.annotations import Logged as Logged
    from docket.dependencies import LIMIT_BY as LIMIT_BY
    from docket.dependencies import CallArgument as CallArgument
    from docket.dependencies import ConcurrencyLimit as ConcurrencyLimit
    from docket.dependencies import ConcurrencyStrategy as ConcurrencyStrategy
    from docket.dependencies import ConflictResolution as ConflictResolution
    from docket.dependencies import Cooldown as Cooldown
    from docket.dependencies import Cron as Cron
    from docket.dependencies import CurrentDocket as CurrentDocket
    from docket.dependencies import CurrentExecution as CurrentExecution
    from docket.dependencies import CurrentWorker as CurrentWorker
    from docket.dependencies import Debounce as Debounce
    from docket.dependencies import Depends as Depends
    from docket.dependencies import ExponentialRetry as ExponentialRetry
    from docket.dependencies import Perpetual as Perpetual
    from docket.dependencies import Progress as Progress
    from docket.dependencies import RateLimit as RateLimit
    from docket.dependencies import Retry as Retry
    from docket.dependencies import Shared as Shared
    from docket.dependencies import TaskArgument as TaskArgument
    from docket.dependencies import TaskKey as TaskKey
    from docket.dependencies import TaskLogger as TaskLogger
    from docket.dependencies import Timeout as Timeout
    from docket.docket import Docket as Docket
    from docket.errors import AuthenticationFailed as AuthenticationFailed
    from docket.errors import BadURL as BadURL
    from docket.errors import ConnectionFailed as ConnectionFailed
    from docket.errors import CycleError as CycleError
    from docket.errors import DeadLetter as DeadLetter
    from docket.errors import DocketError as DocketError
    from docket.errors import ExecutionCancelled as ExecutionCancelled
    from docket.errors import ResultStorageFailed as ResultStorageFailed
    from docket.errors import ResultUnavailable as ResultUnavailable
    from docket.errors import TaskFailed as TaskFailed
    from docket.errors import TaskInterrupted as TaskInterrupted
    from docket.execution import Disposition as Disposition
    from docket.execution import Execution as Execution
    from docket.execution import ExecutionState as ExecutionState
    from docket.execution import TaskCall as TaskCall
    from docket.interruption import check_cancelled as check_cancelled
    from docket.interruption import shield as shield
    from docket.priorities import Priority as Priority
    from docket.strikelist import StrikeList as StrikeList
    from docket_runtime.worker import Worker as Worker

_HOMES = {
    "ConcurrencyLimit": "docket.dependencies",
    "ConcurrencyStrategy": "docket.dependencies",
    "ConflictResolution": "docket.dependencies",
    "Cooldown": "docket.dependencies",
    "Debounce": "docket.dependencies",
    "LIMIT_BY": "docket.dependencies",
    "RateLimit": "docket.dependencies",
    "Priority": "docket.priorities",
    "Timeout": "docket.dependencies",
    "Perpetual": "docket.dependencies",
    "Progress": "docket.dependencies",
    "Cron": "docket.dependencies",
    "Logged": "docket.annotations",
    "CycleError": "docket.errors",
    "TaskArgument": "docket.dependencies",
    "Shared": "docket.dependencies",
    "Depends": "docket.dependencies",
    "CallArgument": "docket.dependencies",
    "AuthenticationFailed": "docket.errors",
    "BadURL": "docket.errors",
    "ConnectionFailed": "docket.errors",
    "CurrentDocket": "docket.dependencies",
    "CurrentExecution": "docket.dependencies",
    "CurrentWorker": "docket.dependencies",
    "DeadLetter": "docket.errors",
    "Disposition": "docket.execution",
    "Docket": "docket.docket",
    "DocketError": "docket.errors",
    "Execution": "docket.execution",
    "ExecutionCancelled": "docket.errors",
    "ExecutionState": "docket.execution",
    "ExponentialRetry": "docket.dependencies",
    "ResultStorageFailed": "docket.errors",
    "ResultUnavailable": "docket.errors",
    "Retry": "docket.dependencies",
    "StrikeList": "docket.strikelist",
    "TaskCall": "docket.execution",
    "TaskFailed": "docket.errors",
    "TaskInterrupted": "docket.errors",
    "TaskKey": "docket.dependencies",
    "TaskLogger": "docket.dependencies",
    "Worker": "docket_runtime.worker",
    "check_cancelled": "docket.interruption",
    "shield": "docket.interruption",
    "tasks": "docket",
    "testing": "docket",
    "Agenda": "docket.agenda",
}

__all__ = [
    "ConcurrencyLimit",
    "ConcurrencyStrategy",
    "ConflictResolution",
    "Cooldown",
    "Debounce",
    "LIMIT_BY",
    "RateLimit",
    "Priority",
    "Timeout",
    "Perpetual",
    "Progress",
    "Cron",
    "Logged",
    "CycleError",
    "TaskArgument",
    "Shared",
    "Depends",
    "CallArgument",
    "AuthenticationFailed",
    "BadURL",
    "ConnectionFailed",
    "CurrentDocket",
    "CurrentExecution",
    "CurrentWorker",
    "DeadLetter",
    "Disposition",
    "Docket",
    "DocketError",
    "Execution",
    "ExecutionCancelled",
    "ExecutionState",
    "ExponentialRetry",
    "ResultStorageFailed",
    "ResultUnavailable",
    "Retry",
    "StrikeList",
    "TaskCall",
    "TaskFailed",
    "TaskInterrupted",
    "TaskKey",
    "TaskLogger",
    "Worker",
    "__version__",
    "check_cancelled",
    "shield",
    "tasks",
    "testing",
    "Agenda",
]


if not TYPE_CHECKING:  # a checker that saw it would take every misspelt import for something

    def __getattr__(name: str) -> Any:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'docket' has no attribute {name!r}")
        value = import_module(f"docket.{name}") if home == "docket" else getattr(import_module(home), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
