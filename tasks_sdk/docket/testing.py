"""For the tests of applications: claims about what is scheduled, a worker that runs to the end, control over time."""

from docket.assertions import (
    assert_no_tasks,
    assert_task_count,
    assert_task_not_scheduled,
    assert_task_scheduled,
)
from docket.timetravel import advance
from docket_runtime.testing import run_to_the_end, run_what_is_due

__all__ = [
    "advance",
    "assert_no_tasks",
    "assert_task_count",
    "assert_task_not_scheduled",
    "assert_task_scheduled",
    "run_to_the_end",
    "run_what_is_due",
]
