"""`docket worker`: one worker as this process, in the foreground."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import typer

from docket import logs
from docket.cli import options
from docket.cli import worker_options as wanted
from docket.cli.session import IMPORT_FAILED, ITS_OWN_PROGRAM, USAGE, leave
from docket.cli.signatures import compact
from docket.descriptors import hold_standard_descriptors
from docket.registry import Registry
from docket.settings import DocketSettings, refuse_strangers
from docket.store.connect import check, hide_password
from docket.tasks import standard_tasks
from docket_runtime.settings import WorkerSettings
from docket_supervisor.loading import LoadFailed, load
from docket_supervisor.settings import in_options

_LOG = logging.getLogger("docket.worker")

EPILOG = f"""\b
{options.DURATIONS}

\b
Exit codes: 0 clean · 1 a bug · 2 usage or configuration · 3 the tasks failed to import
7 the drain deadline passed, work was handed back · 130 / 143 stopped at once by INT / TERM

TERM or INT drains; a second one shortens the drain to 5 seconds; a third one stops immediately."""


def worker(
    context: typer.Context,
    tasks: wanted.Tasks = None,
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    partitions: wanted.Partitions = options.shown(DocketSettings.partitions),
    serve_partitions: wanted.ServePartitions = None,
    name: wanted.Name = None,
    concurrency: wanted.Concurrency = options.shown(WorkerSettings.concurrency),
    threads: wanted.Threads = None,
    redelivery_timeout: wanted.RedeliveryTimeout = options.shown(WorkerSettings.redelivery_timeout),
    drain_timeout: wanted.DrainTimeout = options.shown(WorkerSettings.drain_timeout),
    max_crashes: wanted.MaxCrashes = options.shown(WorkerSettings.max_crashes),
    until_finished: wanted.UntilFinished = False,
    schedule_automatic_tasks: wanted.ScheduleAutomaticTasks = WorkerSettings.schedule_automatic_tasks,
    fallback_task: wanted.FallbackTask = None,
    dependencies: wanted.Dependencies = None,
    result_storage: wanted.ResultStorage = None,
    healthcheck_port: wanted.HealthcheckPort = None,
    healthcheck_host: wanted.HealthcheckHost = WorkerSettings.healthcheck_host,
    metrics_port: wanted.MetricsPort = None,
    metrics_host: wanted.MetricsHost = WorkerSettings.metrics_host,
    enable_internal_instrumentation: wanted.EnableInternalInstrumentation = False,
    message_batch: wanted.MessageBatch = options.shown(WorkerSettings.message_batch),
    reconnection_delay: wanted.ReconnectionDelay = options.shown(WorkerSettings.reconnection_delay),
    minimum_check_interval: wanted.MinimumCheckInterval = options.shown(
        WorkerSettings.minimum_check_interval
    ),
    scheduling_resolution: wanted.SchedulingResolution = options.shown(WorkerSettings.scheduling_resolution),
    logging_level: wanted.LoggingLevel = "INFO",
    logging_format: wanted.LoggingFormat = None,
) -> None:
    """Run one worker in the foreground.

    On a server, docket-supervise keeps several of them running.
    """
    hold_standard_descriptors()
    try:
        check(url)
        where = DocketSettings(
            name=docket,
            url=url,
            enable_internal_instrumentation=enable_internal_instrumentation,
            partitions=partitions,
        )
        conduct = _conduct(context.params)
        refuse_strangers(conduct.serve_partitions, partitions)
    except ValueError as error:
        leave(in_options(error), USAGE)
    logs.configure(logging_format, logging_level)
    raise typer.Exit(_run(where, conduct, _again(context, url)))


def _conduct(given: Mapping[str, Any]) -> WorkerSettings:
    """Options and settings have the same names."""
    known = {field.name for field in fields(WorkerSettings)}
    said: dict[str, Any] = {name: value for name, value in given.items() if name in known}
    said["tasks"] = _references(given["tasks"])
    return WorkerSettings(**said)


def _references(given: Sequence[str] | None) -> tuple[str, ...]:
    """Split at commas too, which is how the variable names several."""
    references = tuple(part.strip() for text in given or () for part in text.split(",") if part.strip())
    return references or WorkerSettings.tasks


def _run(where: DocketSettings, conduct: WorkerSettings, anew: Sequence[str]) -> int:
    try:
        load(conduct.tasks, ".")
        _tell(where, conduct)
    except (LoadFailed, TypeError, ValueError) as error:
        leave(error, IMPORT_FAILED)
    # Not at the top: mistakes in options and task modules are to be said before a loop and its machinery are loaded.
    from docket_runtime.run import run_worker
    from docket_runtime.surroundings import Surroundings

    return run_worker(where, conduct, Surroundings(anew=anew)) if anew else run_worker(where, conduct)


def _again(context: typer.Context, url: str) -> Sequence[str]:
    """The command that starts this program again; none if it is part of another one, or its queue would end with it."""
    if context.find_root().obj != ITS_OWN_PROGRAM or url.startswith(("memory:", "embedded:")):
        return ()
    return [sys.executable, *sys.orig_argv[1:]]


def _tell(where: DocketSettings, conduct: WorkerSettings) -> None:
    """The log says what this worker is and what it can run. TypeError, ValueError: something cannot be a task."""
    registry = Registry()
    for function in standard_tasks:
        registry.register(function)
    for reference in conduct.tasks:
        registry.register_collection(reference)
    _LOG.info(
        "Starting worker%s on docket '%s' at %s with the following tasks:",
        f" '{conduct.name}'" if conduct.name else "",
        where.name,
        hide_password(where.url),
    )
    for name in registry:
        if task := registry.get(name):
            _LOG.info("* %s", compact(task))
