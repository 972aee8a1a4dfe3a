"""Speaks to systemd: ready, reloading, stopping, still alive. The protocol is one datagram of lines a message."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from datetime import timedelta

from docket import clock

STATUS_EVERY = 5.0
EXTENSION = 15.0
"""Seconds that are asked for while a start or a drain makes progress; asked again every STATUS_EVERY."""
SOON = 0.1
"""Seconds until what found no room, or may not be said yet, is tried again."""


class Herald:
    """Does nothing where nobody listens. Never waits, never fails: a service must not end because systemd is slow.

    `standing` is a line for `systemctl status`.
    """

    def __init__(
        self, standing: Callable[[], str], environment: Mapping[str, str] = os.environ, pid: int = 0
    ) -> None:
        self._standing = standing
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._watchdog = _watchdog(environment, pid or os.getpid())
        self._socket: socket.socket | None = None
        self._next_status = 0.0
        self._next_ping = 0.0
        self._unsaid: deque[str] = deque()
        """Moments for which systemd has had no room yet: it waits for each of them."""
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @property
    def heard(self) -> bool:
        """There is a systemd that has started us and listens."""
        return self._socket is not None

    # Moments

    def ready(self) -> None:
        """The start is complete."""
        self._say(READY=1, STATUS=self._standing())

    def reloading(self) -> None:
        """A rolling restart begins; `reloaded` must follow, however it ends."""
        self._say(RELOADING=1, MONOTONIC_USEC=round(clock.monotonic() * 1e6), STATUS="rolling restart")

    def reloaded(self, problem: str) -> None:
        """The rolling restart is over; `problem` says why it was undone, `""` that it was not."""
        told = f"rolling restart undone: {problem}" if problem else self._standing()
        self._say(READY=1, STATUS=told)

    def reexecuted(self) -> None:
        """This process has a new program, and the service is as ready as it was."""
        self._say(MAINPID=os.getpid(), READY=1, STATUS=self._standing())

    def stopping(self) -> None:
        self._say(STOPPING=1, STATUS=self._standing())

    # As time passes

    def turn(self, now: float, *, progressing: bool, healthy: bool) -> float:
        """Says what is due; returns when to be called again.

        `progressing`: a start or a drain is under way and within its limits, so systemd is to be patient. `healthy`:
        no worker is past its limit without anything being done; the watchdog is fed for nothing less.
        """
        if self._socket is None:
            return float("inf")
        self._catch_up()
        if now >= self._next_status:
            self._next_status = now + STATUS_EVERY
            extension = {"EXTEND_TIMEOUT_USEC": round(EXTENSION * 1e6)} if progressing else {}
            # Also when it has not changed: somebody may look at how old the line is.
            self._send(_message(**extension, STATUS=self._standing()))
        wake_at = min(self._next_status, now + SOON if self._unsaid else float("inf"))
        if not self._watchdog:
            return wake_at
        if now >= self._next_ping and healthy:
            self._next_ping = now + self._watchdog.total_seconds() / 3
            self._send(_message(WATCHDOG=1))
        return min(wake_at, max(self._next_ping, now + SOON))

    def _say(self, **lines: object) -> None:
        if self._socket is not None:
            self._unsaid.append(_message(**lines))
            self._catch_up()

    def _catch_up(self) -> None:
        while self._unsaid and self._send(self._unsaid[0]):
            self._unsaid.popleft()

    def _send(self, message: str) -> bool:
        """False if there is no room for it now; nobody there to hear it is as good as heard."""
        assert self._socket is not None
        # An abstract address begins with a zero byte, which an environment variable cannot hold.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            self._socket.sendto(message.encode(), address)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True


def _message(**lines: object) -> str:
    return "\n".join(f"{name}={str(value).replace(chr(10), ' ')}" for name, value in lines.items())


def _watchdog(environment: Mapping[str, str], pid: int) -> timedelta:
    """The time within which systemd wants to hear from us; zero if it does not, or means another process."""
    text, meant = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not text.isdecimal() or (meant and meant != str(pid)):
        return timedelta(0)
    return timedelta(microseconds=int(text))
