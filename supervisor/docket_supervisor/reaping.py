"""Dead children, ours or adopted, one by one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil

from docket_supervisor.deaths import Death

_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024

FAREWELL = 2.0
"""Seconds that strangers have to end when we do."""


def reap(before: Callable[[int], None]) -> Iterator[Death]:
    """Every child that has died, strangers that were re-parented to us included.

    `before` is called with the pid while the process is still a zombie: until it is reaped, its pid and its process
    group cannot belong to anybody else.
    """
    while True:
        pid = _next()
        if pid == 0:
            return
        before(pid)
        _, status, used = os.wait4(pid, 0)
        yield Death(pid, status, used.ru_maxrss * _MAXRSS_UNIT)


def farewell() -> None:
    """As the first process of a container or a machine: whoever is left gets the TERM that we got, and a moment to act
    on it. Who comes after us is the kernel, which kills."""
    left = psutil.Process().children(recursive=True)
    for process in left:
        with suppress(psutil.Error):
            process.terminate()
    psutil.wait_procs(left, timeout=FAREWELL)


def _next() -> int:
    try:
        seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return seen.si_pid if seen else 0
