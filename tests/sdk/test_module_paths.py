"""Where users of pydocket import from still leads to the same objects; what does not is told in the guide."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module

import pytest

import docket
from tests.guards.tree import REPOSITORY

GUIDE = (REPOSITORY / "docs/coming-from-pydocket.md").read_text()

FRONT_DOOR = (
    "__version__ Agenda CallArgument ConcurrencyLimit Cooldown Cron CurrentDocket CurrentExecution CurrentWorker "
    "CycleError Debounce Depends Disposition Docket Execution ExecutionCancelled ExecutionState ExponentialRetry "
    "Logged Perpetual Progress RateLimit Retry Shared StrikeList TaskArgument TaskCall TaskKey TaskLogger testing "
    "Timeout Worker"
)
"""Everything that pydocket exports."""

PATHS = {
    "docket.agenda": "Agenda",
    "docket.annotations": "Annotation Logged",
    "docket.dependencies": (
        "CallArgument Cron CurrentDocket CurrentExecution CurrentWorker CycleError Dependency DependencyFunction "
        "Depends ExponentialRetry ForcedRetry Perpetual Progress Retry Shared TaskArgument TaskKey TaskLogger Timeout "
        "current_docket current_execution current_worker get_annotation_dependencies get_dependency_parameters "
        "get_single_dependency_of_type get_single_dependency_parameter_of_type"
    ),
    "docket.docket": "Docket DocketSnapshot RunningExecution TaskCollection WorkerInfo",
    "docket.execution": (
        "Disposition Execution ExecutionProgress ExecutionState ProgressEvent StateEvent TaskCall TaskFunction"
    ),
    "docket.instrumentation": (
        "CACHE_SIZE QUEUE_DEPTH REDIS_DISRUPTIONS SCHEDULE_DEPTH STRIKES_IN_EFFECT TASKS_ADDED TASKS_CANCELLED "
        "TASKS_COMPLETED TASKS_FAILED TASKS_PERPETUATED TASKS_REDELIVERED TASKS_REPLACED TASKS_RETRIED TASKS_RUNNING "
        "TASKS_SCHEDULED TASKS_STARTED TASKS_STRICKEN TASKS_SUCCEEDED TASKS_SUPERSEDED TASK_DURATION TASK_PUNCTUALITY "
        "healthcheck_server message_getter message_setter metrics_server"
    ),
    "docket.strikelist": "Operator Restore Strike StrikeInstruction StrikeList",
    "docket.tasks": "fail sleep standard_tasks trace",
    "docket.testing": "assert_no_tasks assert_task_count assert_task_not_scheduled assert_task_scheduled",
    "docket.worker": "Worker",
}


@pytest.mark.parametrize("path", PATHS)
def test_a_module_path_leads_to_the_same_objects_as_the_front_door(path: str):
    module = import_module(path)
    for name in PATHS[path].split():
        assert hasattr(module, name), f"{path}.{name} is gone"
        if name in docket.__all__:
            assert getattr(module, name) is getattr(docket, name)


def test_modules_of_the_front_door_are_the_modules():
    assert docket.testing is import_module("docket.testing")
    assert docket.tasks is import_module("docket.tasks")


def section(heading: str) -> set[str]:
    text = re.split(r"^## ", GUIDE, flags=re.MULTILINE)
    (found,) = [part for part in text if part.startswith(heading)]
    return set(re.findall(r"`(\w+)`", found))


def test_what_the_front_door_lacks_is_told_in_the_guide():
    missing = set(FRONT_DOOR.split()) - set(docket.__all__)
    told = section("Not here yet")
    assert told - missing == set(), "is there now: take it off the list of the guide"
    assert missing - told == set()


def test_what_is_not_offered_is_really_not_there():
    for name in (
        "Runtime",
        "FailureHandler",
        "CompletionHandler",
        "TaskOutcome",
        "AdmissionBlocked",
        "ConcurrencyBlocked",
        "FailedDependency",
        "SharedContext",
        "resolved_dependencies",
        "format_duration",
    ):
        assert name in section("Not offered") and not hasattr(import_module("docket.dependencies"), name)
    for name in ("compact_signature", "get_signature", "schedule_many"):
        assert name in section("Not offered") and not hasattr(import_module("docket.execution"), name)


def test_adding_tasks_loads_no_worker():
    code = "import sys, docket; docket.Docket; docket.Agenda; sys.exit('docket_runtime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
