"""Whether a process is there, and whether it is able to do anything."""

from __future__ import annotations

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
