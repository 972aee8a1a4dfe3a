"""Whether a process is there, and whether it is able to do anything."""

from __future__ import annotations

import os
from functools import lru_cache

import psutil

_GONE = frozenset({psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD})
_STOPPED = frozenset({psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP})
_UNABLE = _GONE | _STOPPED


def there(process: psutil.Process) -> bool:
    """It has not ended, and its pid is not somebody else's by now."""
    try:
        return process.is_running() and process.status() not in _GONE
    except psutil.Error:
        return False


def stopped(pid: int) -> bool:
    """By STOP or a debugger: it is there, and can do nothing."""
    try:
        return _process(pid).status() in _STOPPED
    except psutil.Error:
        return False


def catches(pid: int, number: int) -> bool:
    """It has a handler for this signal, which might end it otherwise. Where the kernel does not say it is presumed."""
    try:
        with open(f"/proc/{pid}/status") as status:
            caught = next((line.split()[1] for line in status if line.startswith("SigCgt:")), None)
    except FileNotFoundError:
        return not os.path.exists("/proc/self/status")
    except OSError:
        return False
    return caught is None or bool(int(caught, 16) >> (number - 1) & 1)


def able(pid: int) -> bool:
    """It computes, sleeps or waits (a blocked event loop does too), and is neither dead nor stopped."""
    try:
        return _process(pid).status() not in _UNABLE
    except psutil.Error:
        return False


@lru_cache(maxsize=512)
def _process(pid: int) -> psutil.Process:
    """Made once: that reads when the process began, which is as dear as to read how it is."""
    return psutil.Process(pid)
