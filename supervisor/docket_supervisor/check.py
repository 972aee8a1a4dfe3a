"""`--check`: everything that can be known before a worker is forked, found out without forking one."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import stat
import sys
from functools import partial

from docket.errors import BadURL
from docket_supervisor.child import RUN_WORKER
from docket_supervisor.codes import ExitCode
from docket_supervisor.deaths import Death
from docket_supervisor.doctor import REFUSED, Doctor, explained
from docket_supervisor.forking import fork
from docket_supervisor.listening import CannotListen, listening
from docket_supervisor.loading import LoadFailed, find, find_setup, load
from docket_supervisor.pidfile import pid_in
from docket_supervisor.sampling import weigh
from docket_supervisor.settings import SupervisorSettings
from docket_supervisor.taken import Taken
from docket_supervisor.template import preload


def check(settings: SupervisorSettings) -> int:
    """Imports the task modules in a child, since what they do to a process must not be done to this one.

    Returns the exit code that a real start would have ended with, or 0.
    """
    if problem := _premises(settings):
        return problem
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


def _premises(settings: SupervisorSettings) -> ExitCode | None:
    """Whether pidfile, control socket and port could be had; nothing is made or written for that. That they are in use
    is no mistake: the check may be made beside the service that runs."""
    try:
        if settings.pidfile:
            _examine_pidfile(settings.pidfile)
        if settings.control_socket is not None:
            _examine_socket(settings.control_socket)
        if settings.health_port is not None:
            _examine_port(settings.health_host, settings.health_port)
    except Taken as error:
        _say(str(error))
        return ExitCode.TAKEN
    except (ValueError, CannotListen) as error:
        _say(str(error))
        return ExitCode.USAGE
    return None


def _examine_pidfile(path: str) -> None:
    try:
        if not os.path.exists(path):
            _may_be_made(os.path.realpath(path))
            return
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            content = os.pread(descriptor, 100, 0)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ValueError(f"expected --pidfile to be a file that can be written: {error}") from None
    pid_in(path, content)


def _examine_socket(path: str) -> None:
    try:
        if not os.path.lexists(path):
            _may_be_made(path)
        elif not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise Taken(f"expected the control socket {path} to be free, got something that is no socket")
    except OSError as error:
        raise ValueError(f"expected --control-socket to be a place for a socket: {path}: {error}") from None


def _may_be_made(path: str) -> None:
    """OSError, as from making it, if its folder is not there or nothing can be written to it."""
    folder = os.path.dirname(os.path.abspath(path))
    os.stat(os.path.join(folder, "."))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def _examine_port(host: str, port: int) -> None:
    """Opened for a moment, which also tells that the name has an address and that the address is ours."""
    try:
        listening(host, port).close()
    except CannotListen as error:
        if not (isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE):
            raise


def _check(settings: SupervisorSettings) -> int:
    signal.setitimer(signal.ITIMER_REAL, settings.boot_timeout.total_seconds())
    try:
        with Doctor(thorough=True) as doctor:
            load(settings.worker.tasks, settings.app_dir)
            find_setup(settings.worker_setup)
        findings = doctor.findings() if settings.preload else []
        if findings:
            _say(explained(findings))
            if settings.strict_fork:
                _say(REFUSED)
                return ExitCode.USAGE
        # Workers do it for themselves, so what it leaves is of no interest to the doctor.
        _find_storage(settings.worker.result_storage)
    except LoadFailed as failure:
        _say(str(failure))
        return ExitCode.IMPORT
    signal.setitimer(signal.ITIMER_REAL, 0)
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


def _find_storage(reference: str | None) -> None:
    """What can be told of it without asking a function to make one, which is for workers only."""
    if reference is None:
        return
    found = find(reference, "on sys.path")
    if callable(found) and not (isinstance(found, type) or hasattr(found, "put")):
        return
    try:
        importlib.import_module("docket.resultstorage").refuse_other_than_storage(found)
    except TypeError as error:
        raise LoadFailed(f"{reference}: {error}") from None


def _show_weight(settings: SupervisorSettings) -> None:
    if settings.preload:
        preload(RUN_WORKER)
        if weight := weigh(settings, RUN_WORKER):
            print(f"memory of a worker before its first task: {weight}", file=sys.stderr)


def _say(sentence: str) -> None:
    print(f"docket-supervise: {sentence}", file=sys.stderr)
