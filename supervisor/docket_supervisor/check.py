"""`--check`: everything that can be known before a worker is forked, found out without forking one."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from functools import partial

from docket.errors import BadURL
from docket_supervisor.child import RUN_WORKER
from docket_supervisor.codes import ExitCode
from docket_supervisor.deaths import Death
from docket_supervisor.doctor import REFUSED, Doctor, explained
from docket_supervisor.forking import fork
from docket_supervisor.loading import LoadFailed, find_setup, load
from docket_supervisor.sampling import weigh
from docket_supervisor.settings import SupervisorSettings
from docket_supervisor.template import preload


def check(settings: SupervisorSettings) -> int:
    """Imports the task modules in a child, since what they do to a process must not be done to this one.

    Returns the exit code that a real start would have ended with, or 0.
    """
    pid = fork(partial(_check, settings))
    death = Death(pid, os.waitpid(pid, 0)[1])
    if death.signal == signal.SIGALRM:
        _say(
            f"the task modules did not finish importing within {settings.boot_timeout.total_seconds():g} seconds"
        )
        return ExitCode.NOT_READY
    if death.code is None:
        _say(f"importing the task modules was {death.cause}")
        return ExitCode.IMPORT
    return death.code


def _check(settings: SupervisorSettings) -> int:
    signal.setitimer(signal.ITIMER_REAL, settings.boot_timeout.total_seconds())
    try:
        with Doctor(thorough=True) as doctor:
            load(settings.worker.tasks, settings.app_dir)
            find_setup(settings.worker_setup)
    except LoadFailed as failure:
        _say(str(failure))
        return ExitCode.IMPORT
    signal.setitimer(signal.ITIMER_REAL, 0)
    findings = doctor.findings() if settings.preload else []
    if findings:
        _say(explained(findings))
        if settings.strict_fork:
            _say(REFUSED)
            return ExitCode.USAGE
    # By name and in the child, like every room that knows Redis.
    try:
        importlib.import_module("docket.store.connect").check(settings.docket.url)
    except BadURL as error:
        _say(str(error))
        return ExitCode.USAGE
    if settings.require_redis:
        reach = importlib.import_module("docket_supervisor.reach").reach
        if problem := reach(settings):
            _say(f"Redis is not reachable: {problem}")
            return ExitCode.NO_REDIS
    _show_weight(settings)
    many = f"{settings.min_processes} to {settings.most}" if settings.autoscale else str(settings.processes)
    print(
        f"ok: docket {settings.docket.name}, {many} processes with {settings.worker.concurrency} slots "
        f"each, tasks from {', '.join(settings.worker.tasks)}",
        file=sys.stderr,
    )
    return ExitCode.CLEAN


def _show_weight(settings: SupervisorSettings) -> None:
    if settings.preload:
        preload(RUN_WORKER)
        if weight := weigh(settings, RUN_WORKER):
            print(f"memory of a worker before its first task: {weight}", file=sys.stderr)


def _say(sentence: str) -> None:
    print(f"docket-supervise: {sentence}", file=sys.stderr)
