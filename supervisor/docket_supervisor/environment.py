"""Variables that are meant for the supervisor alone, and that nothing a task starts may find."""

from __future__ import annotations

import os

PRIVATE = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "DOCKET_CONTROL_SOCKET",
    "DOCKET_PIDFILE",
)


def withhold() -> None:
    """Called in every child after the fork: a program that speaks to systemd would otherwise speak for us.

    Not in the supervisor: when it re-executes itself it needs them again.
    """
    for name in PRIVATE:
        os.environ.pop(name, None)
