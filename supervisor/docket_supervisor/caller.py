"""The other end of the control socket: finds the supervisor that is meant, asks it, and says what it answered."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from typing import Any, cast

import psutil

from docket_supervisor import sockets
from docket_supervisor.codes import Verdict
from docket_supervisor.vitality import there

LEAVING = 5.0
"""Seconds from a supervisor's last words to its end."""


class Failed(Exception):
    """The sentence says why; `verdict` is the exit code."""

    def __init__(self, verdict: Verdict, reason: str) -> None:
        super().__init__(reason)
        self.verdict = verdict


@dataclass(frozen=True)
class Wanted:
    """Which supervisor is meant: the one behind this socket, or the only one of this docket, with this pid."""

    socket: str | None = None
    docket: str | None = None
    pid: int | None = None


def ask(wanted: Wanted, verb: str, *, wait: bool = False, **more: Any) -> dict[str, Any]:
    """What the supervisor answered. Failed if there is none, if several may be meant, or if it refuses."""
    connection = _connected(wanted)
    with connection:
        try:
            connection.settimeout(sockets.PATIENCE)
            connection.sendall(json.dumps({"verb": verb, "wait": wait, **more}).encode() + b"\n")
            connection.settimeout(None if wait else sockets.PATIENCE)
            answer = _line(connection)
        except TimeoutError:
            raise Failed(Verdict.REFUSED, f"no answer within {sockets.PATIENCE:g} seconds") from None
        except OSError as error:
            raise Failed(Verdict.NOBODY, f"the supervisor ended before it answered: {error}") from None
    if not answer:
        raise Failed(Verdict.NOBODY, "the supervisor ended before it answered")
    told = cast("dict[str, Any]", json.loads(answer))
    if not told["ok"]:
        raise Failed(Verdict.REFUSED, told["reason"])
    return told


def outlast(pid: int) -> None:
    """Returns when that process is gone, which has said that it is about to be."""
    try:
        process = psutil.Process(pid)
    except psutil.Error:
        return
    for _ in range(round(LEAVING / 0.02)):
        if not there(process):
            return
        time.sleep(0.02)


def _connected(wanted: Wanted) -> socket.socket:
    if wanted.socket is not None:
        return _through(wanted.socket, f"nobody listens at {wanted.socket}")
    found = [path for path in sockets.standing(wanted.docket, wanted.pid) if _is_answered(path)]
    if not found:
        of = f" of docket {wanted.docket}" if wanted.docket else ""
        with_pid = f" with pid {wanted.pid}" if wanted.pid else ""
        places = " or ".join(sockets.folders())
        raise Failed(
            Verdict.NOBODY, f"there is no supervisor{of}{with_pid} (looked for its socket in {places})"
        )
    if len(found) > 1:
        names = "\n  ".join(found)
        raise Failed(
            Verdict.REFUSED,
            f"several supervisors run; say which with --docket, --pid or --control-socket:\n  {names}",
        )
    return _through(found[0], "the supervisor has just ended")


def _through(path: str, nobody: str) -> socket.socket:
    try:
        connection = sockets.connected(path)
    except OSError as error:
        raise Failed(Verdict.NOBODY, f"cannot speak to {path}: {error}") from None
    if connection is None:
        raise Failed(Verdict.NOBODY, nobody)
    return connection


def _is_answered(path: str) -> bool:
    """False also for other people's: what we may not speak to is not what is meant."""
    try:
        connection = sockets.connected(path)
    except OSError:
        return False
    if connection is None:
        return False
    connection.close()
    return True


def _line(connection: socket.socket) -> bytes:
    heard = bytearray()
    while not heard.endswith(b"\n"):
        chunk = connection.recv(65536)
        if not chunk:
            return b""
        heard += chunk
    return bytes(heard)
