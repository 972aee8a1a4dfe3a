"""The port at which the service answers for itself, taken before anything is forked: it outlives every steward."""

from __future__ import annotations

import errno
import socket
import time

from docket import clock
from docket.errors import DocketError

PATIENCE = 2.0
"""Seconds for a predecessor's steward to notice that its supervisor is gone, and to leave the port to us."""
_PAUSE = 0.05


class CannotListen(DocketError):
    """The text says where, and why not."""


class Entrance:
    """The supervisor opens it, the steward answers there, and everybody else who inherits it lets go of it."""

    def __init__(self, host: str, port: int | None) -> None:
        """Without a port it stays closed; 0 is any free one."""
        self._host, self._port = host, port
        self.socket: socket.socket | None = None

    def adopt(self, descriptor: int) -> None:
        """The port that an earlier supervisor had opened, which this one has taken the place of."""
        self.socket = socket.socket(fileno=descriptor)

    def open(self) -> str:
        """Where it is, as a URL; `""` without a port. CannotListen if that cannot be."""
        if self._port is None:
            return ""
        if self.socket is None:
            self.socket = listening(self._host, self._port)
        host, port = self.socket.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()


def listening(host: str, port: int) -> socket.socket:
    give_up_at = clock.monotonic() + PATIENCE
    while True:
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
            return socket.create_server((host, port), family=family, backlog=64)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or clock.monotonic() >= give_up_at:
                raise CannotListen(
                    f"cannot answer for health at {host}, port {port}: {error.strerror or error}"
                ) from error
        time.sleep(_PAUSE)
