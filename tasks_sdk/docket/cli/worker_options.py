"""The options of `docket worker`: the variables that stand for each, and the sentence that explains it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from docket import logs
from docket.cli.options import duration, number, option
from docket.settings import partitions_in
from docket_runtime.settings import WorkerSettings

_NOTHING_POLLS = "Accepted for compatibility: an upper bound of waiting. Nothing polls at it."


def _variables(name: str) -> list[str]:
    """Ours and the one of `docket-supervise`, so that one environment serves both."""
    return [f"DOCKET_WORKER_{name}", f"DOCKET_{name}"]


def _reference(text: str) -> str:
    module, colon, attribute = text.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"expected module:function, got {text!r}")
    return text


Tasks = Annotated[
    list[str] | None,
    typer.Option(
        envvar="DOCKET_TASKS",
        help="Tasks to run; repeatable, or separated by commas. The current folder is on sys.path.",
        metavar="MODULE:COLLECTION",
        show_default=",".join(WorkerSettings.tasks),
    ),
]
Name = Annotated[
    str | None,
    typer.Option(
        envvar="DOCKET_WORKER_NAME", help="Name of this worker.", metavar="NAME", show_default="host#pid"
    ),
]
Partitions = Annotated[
    int,
    number(
        "--partitions",
        "Into how many partitions the docket is split; the same for all its clients and workers.",
        ["DOCKET_PARTITIONS"],
    ),
]
ServePartitions = Annotated[
    tuple[int, ...] | None,
    option(
        "--serve-partitions",
        partitions_in,
        "The partitions that this worker serves, such as 0,2.",
        metavar="N,…",
        variables=_variables("SERVE_PARTITIONS")[::-1],
        show_default="all",
    ),
]
LoggingLevel = Annotated[
    logs.LogLevel,
    option(
        "--logging-level",
        logs.checked_level,
        "Least severe lines to log.",
        metavar="DEBUG…CRITICAL",
        variables=["DOCKET_LOGGING_LEVEL", "DOCKET_LOG_LEVEL"],
    ),
]
LoggingFormat = Annotated[
    logs.LogFormat | None,
    option(
        "--logging-format",
        logs.checked_format,
        "Form of the log lines on standard error.",
        metavar="rich|plain|json",
        variables=["DOCKET_LOGGING_FORMAT", "DOCKET_LOG_FORMAT"],
        show_default="rich on a terminal, else plain",
    ),
]
Concurrency = Annotated[int, number("--concurrency", "Executions at a time.", _variables("CONCURRENCY"))]
Threads = Annotated[
    int | None,
    number("--threads", "Threads for sync tasks.", _variables("THREADS"), show_default="the concurrency"),
]
MessageBatch = Annotated[
    int,
    number(
        "--message-batch",
        "Most executions to claim in one exchange with Redis.",
        "DOCKET_WORKER_MESSAGE_BATCH",
    ),
]
RedeliveryTimeout = Annotated[
    timedelta,
    duration(
        "--redelivery-timeout",
        "How long a claim outlives the last sign of its worker.",
        _variables("REDELIVERY_TIMEOUT"),
    ),
]
ReconnectionDelay = Annotated[
    timedelta,
    duration(
        "--reconnection-delay",
        "Longest pause between two tries when Redis is away.",
        "DOCKET_WORKER_RECONNECTION_DELAY",
    ),
]
MinimumCheckInterval = Annotated[
    timedelta,
    duration("--minimum-check-interval", _NOTHING_POLLS, "DOCKET_WORKER_MINIMUM_CHECK_INTERVAL"),
]
SchedulingResolution = Annotated[
    timedelta,
    duration("--scheduling-resolution", _NOTHING_POLLS, "DOCKET_WORKER_SCHEDULING_RESOLUTION"),
]
DrainTimeout = Annotated[
    timedelta,
    duration(
        "--drain-timeout",
        "What running executions are given to finish when the worker is told to stop.",
        _variables("DRAIN_TIMEOUT"),
    ),
]
MaxCrashes = Annotated[
    int,
    number(
        "--max-crashes",
        "Workers that one execution may kill before it is set aside as a dead letter.",
        _variables("MAX_CRASHES"),
    ),
]
UntilFinished = Annotated[
    bool,
    typer.Option(
        "--until-finished",
        envvar="DOCKET_WORKER_UNTIL_FINISHED",
        help="Leave when nothing waits, is scheduled or runs any more.",
    ),
]
ResultStorage = Annotated[
    str | None,
    typer.Option(
        "--result-storage",
        envvar=_variables("RESULT_STORAGE"),
        help="Where results are kept in place of Redis: a store with py-key-value's protocol, or a function that makes "
        "one. Clients that read results need the same.",
        metavar="MODULE:OBJECT",
        show_default=False,
    ),
]
Dependencies = Annotated[
    str | None,
    typer.Option(
        "--dependencies",
        envvar=_variables("DEPENDENCIES"),
        help="What is opened around every task: a list, or a mapping of names.",
        metavar="MODULE:MEMBER",
        show_default=False,
    ),
]
ScheduleAutomaticTasks = Annotated[
    bool,
    typer.Option(
        "--schedule-automatic-tasks/--no-schedule-automatic-tasks",
        envvar="DOCKET_WORKER_SCHEDULE_AUTOMATIC_TASKS",
        help="Add perpetual and cron tasks that are automatic when the worker starts.",
    ),
]
EnableInternalInstrumentation = Annotated[
    bool,
    typer.Option(
        "--enable-internal-instrumentation/--no-enable-internal-instrumentation",
        envvar="DOCKET_WORKER_ENABLE_INTERNAL_INSTRUMENTATION",
        help="Let an OpenTelemetry instrumentation of redis-py see docket's own commands, too.",
    ),
]
HealthcheckPort = Annotated[
    int | None,
    number(
        "--healthcheck-port",
        "Answer at this port whether the worker is well: /live, /ready, /startup. 0: a free one.",
        "DOCKET_WORKER_HEALTHCHECK_PORT",
        show_default=False,
    ),
]
HealthcheckHost = Annotated[
    str,
    typer.Option(
        envvar="DOCKET_WORKER_HEALTHCHECK_HOST", help="Address of the health check.", metavar="HOST"
    ),
]
MetricsPort = Annotated[
    int | None,
    number(
        "--metrics-port",
        "Show Prometheus at this port what the worker counts. 0: a free one. Needs docket-runtime[otel].",
        "DOCKET_WORKER_METRICS_PORT",
        show_default=False,
    ),
]
MetricsHost = Annotated[
    str, typer.Option(envvar="DOCKET_WORKER_METRICS_HOST", help="Address of the metrics.", metavar="HOST")
]
FallbackTask = Annotated[
    str | None,
    option(
        "--fallback-task",
        _reference,
        "What is run for a task that this worker does not know. Without one, such work is set aside as a dead "
        "letter until a worker comes that knows it.",
        metavar="MODULE:FUNCTION",
        variables=_variables("FALLBACK_TASK"),
        show_default=False,
    ),
]
