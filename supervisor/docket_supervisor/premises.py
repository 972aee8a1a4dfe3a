"""What a supervisor occupies on its machine: the pidfile and the control socket."""

from __future__ import annotations

import logging
import math
import os
import selectors

from docket_supervisor import sockets
from docket_supervisor.control import Control
from docket_supervisor.estate import Reception
from docket_supervisor.pidfile import Pidfile
from docket_supervisor.settings import SupervisorSettings
from docket_supervisor.verbs import Verbs

logger = logging.getLogger("docket.supervisor")


class Premises:
    """Claimed before anything is forked, released after the last process has left."""

    def __init__(self, settings: SupervisorSettings, verbs: Verbs, former: Reception | None = None) -> None:
        """`former`: of the program in whose place we are."""
        self._pidfile = Pidfile(settings.pidfile) if settings.pidfile else None
        self._chosen = settings.control_socket is not None
        path = settings.control_socket or sockets.default_path(settings.docket.name, os.getpid())
        self._control: Control | None = Control(path, verbs.obey, verbs.go_on)
        if former is not None:
            self._control.adopt(former)

    def claim(self) -> None:
        """Taken if one of them belongs to somebody else; ValueError if one that was asked for cannot be."""
        if self._pidfile is not None:
            try:
                self._pidfile.claim()
            except OSError as error:
                raise ValueError(f"expected --pidfile to be a file that can be written: {error}") from None
        try:
            self._claim_control()
        except BaseException:
            if self._pidfile is not None:
                self._pidfile.release()
            raise

    def _claim_control(self) -> None:
        assert self._control is not None
        sockets.sweep()
        try:
            self._control.claim()
        except OSError as error:
            path = self._control.path
            self._control.close()
            self._control = None
            if self._chosen:
                raise ValueError(
                    f"expected --control-socket to be a place for a socket: {path}: {error}"
                ) from None
            # Nobody has asked for it, and without it the service does all that it must.
            logger.warning("there is no control socket: %s: %s", path, error)

    def open(self, selector: selectors.BaseSelector) -> None:
        if self._control is not None:
            self._control.open(selector)

    def turn(self, now: float) -> float:
        return self._control.turn(now) if self._control is not None else math.inf

    @property
    def reception(self) -> Reception | None:
        return self._control.reception if self._control is not None else None

    def close(self) -> None:
        """What a forked child does."""
        for each in (self._pidfile, self._control):
            if each is not None:
                each.close()

    def release(self, code: int) -> None:
        if self._control is not None:
            self._control.release(code)
        if self._pidfile is not None:
            self._pidfile.release()
