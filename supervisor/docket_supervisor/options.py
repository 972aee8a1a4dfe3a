"""The options of `docket-supervise`: the variable that stands for each, and the sentence that explains it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from docket.settings import DocketSettings
from docket_runtime.settings import WorkerSettings


def _option(variable: str, help: str, **more: Any) -> typer.models.OptionInfo:
    """`was` names the variable that the reference's `docket worker` reads for the same thing."""
    was = more.pop("was", None)
    return typer.Option(envvar=[variable, was] if was else variable, help=help, **more)  # pyright: ignore[reportArgumentType]


Processes = Annotated[
    str,
    _option(
        "DOCKET_PROCESSES",
        "Worker processes; auto: one for each core; a range, or auto with bounds: as many as the work needs.",
        metavar="N|auto|MIN..MAX",
    ),
]
MinProcesses = Annotated[
    int | None,
    _option(
        "DOCKET_MIN_PROCESSES",
        "No signal or command leaves fewer than these.",
        metavar="N",
        show_default="1",
    ),
]
MaxProcesses = Annotated[
    int | None,
    _option(
        "DOCKET_MAX_PROCESSES",
        "No signal or command leads to more than these.",
        metavar="N",
        show_default="4 times --processes, 16 at least",
    ),
]
MinReady = Annotated[
    int | None,
    _option(
        "DOCKET_MIN_READY",
        "The start is complete once so many workers have become ready (default: all); the service is ready while "
        "so many can claim (default: one).",
        metavar="N",
        show_default=False,
    ),
]
Concurrency = Annotated[
    int,
    _option(
        "DOCKET_CONCURRENCY",
        "Executions at a time in each process.",
        metavar="N",
        was="DOCKET_WORKER_CONCURRENCY",
    ),
]
Threads = Annotated[
    int | None,
    _option(
        "DOCKET_THREADS",
        "Threads for sync tasks in each process.",
        metavar="N",
        show_default="the concurrency",
    ),
]
Tasks = Annotated[
    list[str] | None,
    _option(
        "DOCKET_TASKS",
        "Tasks to run; repeatable, or separated by commas.",
        metavar="MODULE:COLLECTION",
        show_default=",".join(WorkerSettings.tasks),
    ),
]
Docket = Annotated[str, _option("DOCKET_NAME", "Name of the docket.", metavar="NAME")]
URL = Annotated[
    str | None,
    _option(
        "DOCKET_URL",
        "Where its Redis is.",
        metavar="URL",
        show_default=f"systemd's credential docket-url, else {DocketSettings.url}",
    ),
]
Partitions = Annotated[
    int,
    _option(
        "DOCKET_PARTITIONS",
        "Into how many partitions the docket is split; the same for all its clients and workers.",
        metavar="N",
    ),
]
ServePartitions = Annotated[
    str | None,
    _option(
        "DOCKET_SERVE_PARTITIONS",
        "The partitions that these workers serve, such as 0,2.",
        metavar="N,…",
        show_default="all",
    ),
]
RedeliveryTimeout = Annotated[
    str,
    _option(
        "DOCKET_REDELIVERY_TIMEOUT",
        "How long a claim outlives the last sign of its worker.",
        metavar="DURATION",
        was="DOCKET_WORKER_REDELIVERY_TIMEOUT",
    ),
]
DrainTimeout = Annotated[
    str,
    _option(
        "DOCKET_DRAIN_TIMEOUT",
        "What running executions are given to finish when the service is told to stop.",
        metavar="DURATION",
    ),
]
BootTimeout = Annotated[
    str, _option("DOCKET_BOOT_TIMEOUT", "How long a worker may take to become ready.", metavar="DURATION")
]
HangTimeout = Annotated[
    str,
    _option(
        "DOCKET_HANG_TIMEOUT",
        "How long the event loop of a worker may stand still before the worker is killed; 0: never.",
        metavar="DURATION",
    ),
]
SlowAfter = Annotated[
    str,
    _option(
        "DOCKET_SLOW_AFTER",
        "Age from which a running execution is reported, with the line it is at; never killed for it. 0: never.",
        metavar="DURATION",
    ),
]
MaxCrashes = Annotated[
    int,
    _option(
        "DOCKET_MAX_CRASHES",
        "Workers that one execution may kill before it is set aside as a dead letter.",
        metavar="N",
    ),
]
ResultStorage = Annotated[
    str | None,
    _option(
        "DOCKET_RESULT_STORAGE",
        "Where results are kept in place of Redis: a store with py-key-value's protocol, or a function that makes one "
        "in each worker. Clients that read results need the same.",
        metavar="MODULE:OBJECT",
        was="DOCKET_WORKER_RESULT_STORAGE",
    ),
]
MaxRestarts = Annotated[
    int,
    _option(
        "DOCKET_MAX_RESTARTS",
        "Restarts of a slot whose workers get nowhere, within --restart-window.",
        metavar="N",
    ),
]
RestartWindow = Annotated[
    str,
    _option("DOCKET_RESTART_WINDOW", "The time that --max-restarts is counted over.", metavar="DURATION"),
]
Canary = Annotated[
    str,
    _option(
        "DOCKET_CANARY",
        "How long the first worker of a reload must live before the others follow.",
        metavar="DURATION",
    ),
]
MaxTasks = Annotated[
    int | None,
    _option(
        "DOCKET_MAX_TASKS",
        "Executions after which a worker is replaced by a new one.",
        metavar="N",
        show_default="no limit",
    ),
]
MaxMemory = Annotated[
    str | None,
    _option(
        "DOCKET_MAX_MEMORY",
        "Private memory above which a worker is replaced, seen twice within some seconds; K, M, G are binary.",
        metavar="SIZE",
        show_default="no limit",
    ),
]
MaxAge = Annotated[
    str | None,
    _option(
        "DOCKET_MAX_AGE",
        "Age at which a worker is replaced by a new one.",
        metavar="DURATION",
        show_default="no limit",
    ),
]
RecycleJitter = Annotated[
    float,
    _option(
        "DOCKET_RECYCLE_JITTER",
        "Fraction by which these three limits are lowered at random, for each worker anew.",
        metavar="FRACTION",
    ),
]
Preload = Annotated[
    bool,
    _option("DOCKET_PRELOAD", "Import the task modules once and fork workers from there, or in each worker."),
]
WorkerSetup = Annotated[
    str | None,
    _option(
        "DOCKET_WORKER_SETUP",
        "Called in every worker process before it takes work: the place for telemetry and other things that must not "
        "be forked.",
        metavar="MODULE:FUNCTION",
        show_default="none",
    ),
]
ShareMemory = Annotated[
    bool,
    typer.Option(
        "--share-memory/--no-share-memory",
        envvar="DOCKET_SHARE_MEMORY",
        help="Prepare the template's memory so that workers go on sharing it: a rehearsal of a worker's life, no "
        "holes, and with Python 3.12 and 3.13 no counting of references to what is loaded. Never with --watch.",
    ),
]
StrictFork = Annotated[
    bool,
    typer.Option(
        "--strict-fork",
        envvar="DOCKET_STRICT_FORK",
        help="Exit with 2 when importing the task modules leaves threads, sockets, event loops or the like, which do "
        "not survive a fork; else that is a warning.",
    ),
]
HealthPort = Annotated[
    int | None,
    _option(
        "DOCKET_HEALTH_PORT",
        "Port for /startup, /ready, /live, /metrics and /status over HTTP; 0: a free one, which the log names.",
        metavar="PORT",
        show_default="none",
    ),
]
HealthHost = Annotated[
    str, _option("DOCKET_HEALTH_HOST", "Address on which that port is open.", metavar="ADDRESS")
]
RequireRedis = Annotated[
    bool,
    typer.Option(
        "--require-redis",
        envvar="DOCKET_REQUIRE_REDIS",
        help="Exit with 6 when Redis cannot be reached at the start, instead of waiting for it.",
    ),
]
AppDir = Annotated[
    str,
    _option("DOCKET_APP_DIR", "Folder from which the task modules are imported.", metavar="FOLDER"),
]
Watch = Annotated[
    bool,
    typer.Option(
        "--watch",
        envvar="DOCKET_WATCH",
        help="For development: replace the workers whenever a Python file in --app-dir changes, and wait for the "
        "next change when the tasks cannot be imported.",
    ),
]
LogFormat = Annotated[
    str | None,
    _option(
        "DOCKET_LOG_FORMAT",
        "Form of the log lines on standard error.",
        metavar="plain|rich|json",
        show_default="rich on a terminal, else plain",
        was="DOCKET_LOGGING_FORMAT",
    ),
]
LogLevel = Annotated[
    str,
    _option(
        "DOCKET_LOG_LEVEL", "Least severe lines to log.", metavar="DEBUG…CRITICAL", was="DOCKET_LOGGING_LEVEL"
    ),
]
Pidfile = Annotated[
    str | None,
    _option("DOCKET_PIDFILE", "File that names the running supervisor.", metavar="FILE", show_default=False),
]
ControlSocket = Annotated[
    str | None,
    _option(
        "DOCKET_CONTROL_SOCKET",
        "Where status, scale, stop and the other commands reach this supervisor.",
        metavar="FILE",
        show_default="docket-NAME-PID.sock in $XDG_RUNTIME_DIR or the folder for temporary files",
    ),
]
StopTimeout = Annotated[
    str | None,
    _option(
        "DOCKET_STOP_TIMEOUT",
        "What whoever starts the service grants it to stop, as TimeoutStopSec; checked against --drain-timeout.",
        metavar="DURATION",
        show_default=False,
    ),
]
Check = Annotated[
    bool,
    typer.Option(
        "--check",
        envvar="DOCKET_CHECK",
        help="Validate everything, import the task modules, run nothing, and exit.",
    ),
]
