"""How a running sync task learns that it shall end."""

from __future__ import annotations

import threading
from contextvars import ContextVar

_flag: ContextVar[threading.Event | None] = ContextVar("docket.cancellation_flag", default=None)


def set_flag(flag: threading.Event) -> None:
    """Called in the context of the thread that is about to run the task."""
    _flag.set(flag)


def cancellation_requested() -> bool:
    """True inside a sync task that has been cancelled or interrupted."""
    flag = _flag.get()
    return flag is not None and flag.is_set()
