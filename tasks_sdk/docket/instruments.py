"""The metrics as objects of OpenTelemetry; without that package installed they exist, and count nothing.

Loading this loads OpenTelemetry's API: who only counts goes through `docket.telemetry`, which does it when somebody
has configured where counts go.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Bounds of the histograms; `docket-supervise` counts with the same."""

# As annotations in braces, units do not become part of a name in Prometheus.
_TASKS, _SECONDS = "{task}", "s"


class Nothing:
    """Stands for every kind of instrument where OpenTelemetry is not installed."""

    def add(self, amount: float, attributes: Any = None, context: Any = None) -> None: ...
    def record(self, amount: float, attributes: Any = None, context: Any = None) -> None: ...
    def set(self, amount: float, attributes: Any = None, context: Any = None) -> None: ...


class _NoMeter:
    def create_counter(self, *args: Any, **more: Any) -> Nothing:
        return Nothing()

    create_up_down_counter = create_gauge = create_histogram = create_counter


def _meter() -> Any:
    # By name: the package is optional, also for those who check types.
    try:
        return import_module("opentelemetry.metrics").get_meter("docket")
    except ImportError:
        return _NoMeter()


def _histogram(name: str, description: str) -> Any:
    return meter.create_histogram(
        name, unit=_SECONDS, description=description, explicit_bucket_boundaries_advisory=SECONDS
    )


meter: Any = _meter()

TASKS_ADDED: Any = meter.create_counter("docket_tasks_added", _TASKS, "Tasks added")
TASKS_REPLACED: Any = meter.create_counter("docket_tasks_replaced", _TASKS, "Tasks replaced")
TASKS_SCHEDULED: Any = meter.create_counter("docket_tasks_scheduled", _TASKS, "Tasks added or replaced")
TASKS_CANCELLED: Any = meter.create_counter("docket_tasks_cancelled", _TASKS, "Executions cancelled")
TASKS_STARTED: Any = meter.create_counter("docket_tasks_started", _TASKS, "Runs that began")
TASKS_REDELIVERED: Any = meter.create_counter(
    "docket_tasks_redelivered", _TASKS, "Runs that began after an earlier worker had not finished them"
)
TASKS_STRICKEN: Any = meter.create_counter(
    "docket_tasks_stricken", _TASKS, "Calls that were refused, skipped or held because of a strike"
)
TASKS_SUPERSEDED: Any = meter.create_counter(
    "docket_tasks_superseded", _TASKS, "Runs whose end did not count: replaced or cancelled meanwhile"
)
TASKS_COMPLETED: Any = meter.create_counter(
    "docket_tasks_completed", _TASKS, "Runs that ended, however they ended"
)
TASKS_FAILED: Any = meter.create_counter(
    "docket_tasks_failed", _TASKS, "Runs that raised, whether or not they are tried again"
)
TASKS_SUCCEEDED: Any = meter.create_counter(
    "docket_tasks_succeeded", _TASKS, "Runs that ended without an error"
)
TASKS_RETRIED: Any = meter.create_counter(
    "docket_tasks_retried", _TASKS, "Runs that raised and are tried again"
)
TASKS_PERPETUATED: Any = meter.create_counter(
    "docket_tasks_perpetuated", _TASKS, "Runs of perpetual tasks that are followed by another one"
)
TASKS_RUNNING: Any = meter.create_up_down_counter("docket_tasks_running", _TASKS, "Runs under way")
TASK_DURATION: Any = _histogram("docket_task_duration", "How long runs took")
TASK_PUNCTUALITY: Any = _histogram("docket_task_punctuality", "How long after they were due runs began")
REDIS_DISRUPTIONS: Any = meter.create_counter(
    "docket_redis_disruptions", "{disruption}", "Times that Redis was away"
)
STRIKES_IN_EFFECT: Any = meter.create_up_down_counter(
    "docket_strikes_in_effect", "{strike}", "Strikes that this process knows of"
)
QUEUE_DEPTH: Any = meter.create_gauge("docket_queue_depth", _TASKS, "Executions that are due and not claimed")
SCHEDULE_DEPTH: Any = meter.create_gauge("docket_schedule_depth", _TASKS, "Executions that are not due yet")
QUEUE_LATENCY: Any = meter.create_gauge(
    "docket_queue_latency", _SECONDS, "For how long the oldest due execution has been due"
)
DEAD_LETTERS: Any = meter.create_gauge("docket_dead_letters", "{letter}", "Executions that were set aside")
CACHE_SIZE: Any = meter.create_gauge("docket_cache_size", "{entry}", "Tasks that are planned in this process")
