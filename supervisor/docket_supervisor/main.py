"""The command line `docket-supervise`: options and variables in, exit code out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

import typer

from docket import logs
from docket.descriptors import hold_standard_descriptors
from docket.durations import describe, parse
from docket.settings import DocketSettings, partitions_in
from docket_runtime.settings import WorkerSettings
from docket_supervisor import commands, credentials, options
from docket_supervisor.check import check
from docket_supervisor.codes import ExitCode, as_help
from docket_supervisor.limits import Limits, parse_size
from docket_supervisor.program import serve
from docket_supervisor.settings import SupervisorSettings, in_options, option
from docket_supervisor.sizes import numbers
from docket_supervisor.unit import unit

_EPILOG = (
    f"\b\nExit codes:\n{as_help()}\n\n"
    "\b\nSignals to the supervisor:\n"
    "TERM, INT   drain; a second one shortens it to 5 seconds, a third one stops immediately\n"
    "QUIT        stacks into the log, then an immediate stop\n"
    "HUP         the task modules are imported anew, and the workers replaced one by one\n"
    "USR2        the same with the supervisor itself, in its process\n"
    "USR1        stacks of every process into the log, and how the service stands\n"
    "TTIN, TTOU  one process more, one less\n"
    "TSTP, CONT  claim nothing more, and claim again\n\n"
    "The commands have exit codes of their own: COMMAND --help."
)

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def _shown(duration: timedelta | None) -> str:
    return describe(duration or timedelta(0))


@app.callback(epilog=_EPILOG, invoke_without_command=True)
def supervise(
    context: typer.Context,
    processes: options.Processes = "auto",
    min_processes: options.MinProcesses = None,
    max_processes: options.MaxProcesses = None,
    min_ready: options.MinReady = None,
    concurrency: options.Concurrency = WorkerSettings.concurrency,
    threads: options.Threads = WorkerSettings.threads,
    tasks: options.Tasks = None,
    docket: options.Docket = DocketSettings.name,
    url: options.URL = None,
    partitions: options.Partitions = DocketSettings.partitions,
    serve_partitions: options.ServePartitions = None,
    redelivery_timeout: options.RedeliveryTimeout = _shown(WorkerSettings.redelivery_timeout),
    drain_timeout: options.DrainTimeout = _shown(WorkerSettings.drain_timeout),
    boot_timeout: options.BootTimeout = _shown(SupervisorSettings.boot_timeout),
    hang_timeout: options.HangTimeout = _shown(SupervisorSettings.hang_timeout),
    slow_after: options.SlowAfter = _shown(SupervisorSettings.slow_after),
    max_crashes: options.MaxCrashes = WorkerSettings.max_crashes,
    result_storage: options.ResultStorage = None,
    max_restarts: options.MaxRestarts = SupervisorSettings.max_restarts,
    restart_window: options.RestartWindow = _shown(SupervisorSettings.restart_window),
    canary: options.Canary = _shown(SupervisorSettings.canary),
    max_tasks: options.MaxTasks = Limits.max_tasks,
    max_memory: options.MaxMemory = None,
    max_age: options.MaxAge = None,
    recycle_jitter: options.RecycleJitter = Limits.jitter,
    preload: options.Preload = SupervisorSettings.preload,
    worker_setup: options.WorkerSetup = SupervisorSettings.worker_setup,
    share_memory: options.ShareMemory = SupervisorSettings.share_memory,
    strict_fork: options.StrictFork = SupervisorSettings.strict_fork,
    health_port: options.HealthPort = SupervisorSettings.health_port,
    health_host: options.HealthHost = SupervisorSettings.health_host,
    require_redis: options.RequireRedis = SupervisorSettings.require_redis,
    app_dir: options.AppDir = SupervisorSettings.app_dir,
    watch: options.Watch = SupervisorSettings.watch,
    log_format: options.LogFormat = None,
    log_level: options.LogLevel = SupervisorSettings.log_level,
    pidfile: options.Pidfile = None,
    control_socket: options.ControlSocket = None,
    stop_timeout: options.StopTimeout = None,
    only_check: options.Check = False,
) -> None:
    """Keep worker processes of a docket running, and their work safe.

    Without a command: start the service. The commands speak to one that runs; their options follow them.
    """
    if context.invoked_subcommand is not None:
        _refuse_options_before(context)
        return
    settings = validated(context.params)
    logs.configure(settings.log_format, settings.log_level)
    raise typer.Exit(check(settings) if only_check else serve(settings))


commands.add_to(app)


@app.command(
    epilog="The options are those of the service: the unit runs it with them.",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    options_metavar="[OPTIONS OF THE SERVICE]",
)
def systemd(context: typer.Context) -> None:
    """Print a systemd unit that runs the service with these options, with the reason for each line."""
    service = typer.main.get_command(app).make_context("docket-supervise", list(context.args))
    if left := [*vars(service).get("_protected_args", ()), *service.args]:
        raise typer.BadParameter(f"expected options of the service, got {left[0]!r}")
    typer.echo(unit(validated(service.params), _given(service)), nl=False)


_NOT_IN_A_UNIT = {"url", "only_check", "control_socket", "stop_timeout", "app_dir"}
"""A secret, a mode, what the unit says elsewhere, and what is its working folder."""


def _given(service: Any) -> list[str]:
    """What was said on the command line or by variables, as options."""
    words: list[str] = []
    for parameter in service.command.params:
        source = service.get_parameter_source(parameter.name)
        if (
            parameter.name in _NOT_IN_A_UNIT
            or source is None
            or source.name not in ("COMMANDLINE", "ENVIRONMENT")
        ):
            continue
        value = service.params[parameter.name]
        if isinstance(value, bool):
            words += (parameter.opts if value else parameter.secondary_opts)[:1]
        else:
            several = cast("Sequence[object]", value if isinstance(value, list | tuple) else [value])
            for each in several:
                words += [parameter.opts[0], str(each)]
    return words


def _refuse_options_before(context: typer.Context) -> None:
    """An option of the service that stands before a command would change nothing, and that must not go unnoticed."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            verb = context.invoked_subcommand
            typer.echo(
                f"docket-supervise: expected {option(name)} after {verb}: options follow the command",
                err=True,
            )
            raise typer.Exit(ExitCode.USAGE)


def validated(given: Mapping[str, Any]) -> SupervisorSettings:
    """What the options say, by the names of the parameters above; exits with 2 and a sentence if they make no sense."""
    try:
        return _settings(given)
    except ValueError as error:
        typer.echo(f"docket-supervise: {in_options(error)}", err=True)
        raise typer.Exit(ExitCode.USAGE) from None


def _settings(given: Mapping[str, Any]) -> SupervisorSettings:
    log_format = given["log_format"]
    return SupervisorSettings(
        docket=DocketSettings(
            name=given["docket"],
            url=given["url"] or credentials.url(),
            signing_keys=credentials.signing_keys(),
            partitions=given["partitions"],
        ),
        worker=WorkerSettings(
            concurrency=given["concurrency"],
            threads=given["threads"],
            redelivery_timeout=_duration(given, "redelivery_timeout"),
            drain_timeout=_duration(given, "drain_timeout"),
            max_crashes=given["max_crashes"],
            tasks=_references(given["tasks"]),
            result_storage=given["result_storage"],
            serve_partitions=None
            if given["serve_partitions"] is None
            else partitions_in(given["serve_partitions"]),
        ),
        **numbers(given["processes"], given["min_processes"], given["max_processes"]),
        min_ready=given["min_ready"],
        pidfile=given["pidfile"],
        control_socket=given["control_socket"],
        stop_timeout=_duration(given, "stop_timeout") if given["stop_timeout"] else None,
        boot_timeout=_duration(given, "boot_timeout"),
        hang_timeout=_duration(given, "hang_timeout"),
        slow_after=_duration(given, "slow_after"),
        max_restarts=given["max_restarts"],
        restart_window=_duration(given, "restart_window"),
        canary=_duration(given, "canary"),
        limits=Limits(
            max_tasks=given["max_tasks"],
            max_memory=_size(given, "max_memory"),
            max_age=None if given["max_age"] is None else _duration(given, "max_age"),
            jitter=given["recycle_jitter"],
        ),
        preload=given["preload"],
        worker_setup=given["worker_setup"],
        share_memory=given["share_memory"],
        strict_fork=given["strict_fork"],
        health_port=given["health_port"],
        health_host=given["health_host"],
        require_redis=given["require_redis"],
        app_dir=given["app_dir"],
        watch=given["watch"],
        log_format=logs.checked_format(log_format) if log_format else logs.default_format(),
        log_level=logs.checked_level(given["log_level"]),
    )


def _duration(given: Mapping[str, Any], name: str) -> timedelta:
    try:
        return parse(given[name])
    except ValueError as error:
        raise ValueError(f"{option(name)}: {error}") from None


def _size(given: Mapping[str, Any], name: str) -> int | None:
    try:
        return None if given[name] is None else parse_size(given[name])
    except ValueError as error:
        raise ValueError(f"{option(name)}: {error}") from None


def _references(given: list[str] | None) -> tuple[str, ...]:
    """Split at commas too, which is how the variable names several."""
    references = tuple(part.strip() for text in given or () for part in text.split(",") if part.strip())
    return references or WorkerSettings.tasks


def main() -> None:
    """The entry point."""
    hold_standard_descriptors()
    app(prog_name="docket-supervise")
