"""Processes that a task started and its worker left behind: found among those re-parented to us, and ended.

Known by the session of their worker, or by the variable that it put into their environment; the kernel has forgotten
their parent by then. A program that must outlive its worker says so: a new session, and that variable unset.
"""

from __future__ import annotations

import logging
import math
import os
import signal
from collections.abc import Collection
from contextlib import suppress

import psutil

from docket_supervisor.child import COOKIE
from docket_supervisor.vitality import there

logger = logging.getLogger("docket.supervisor")

PATIENCE = 1.5
"""Seconds from TERM to KILL."""
PAUSE = 0.25
"""Seconds between two looks: a stray that is killed may leave strays of its own."""


class Strays:
    """Looks only for a while after a worker has died, for it has to read the machine's list of processes."""

    def __init__(self) -> None:
        self._dead_workers: set[int] = set()
        self._told: dict[psutil.Process, float] = {}
        self._next_look = math.inf
        self._last_look = 0.0

    def orphaned_by(self, worker: int, now: float) -> None:
        self._dead_workers.add(worker)
        self._next_look = now
        self._last_look = now + 2 * PATIENCE

    @property
    def dead_workers(self) -> frozenset[int]:
        """Those whose strays are being looked for."""
        return frozenset(self._dead_workers)

    @property
    def pending(self) -> bool:
        return bool(self._told)

    def turn(self, now: float, known: Collection[int]) -> float:
        """Ends what is found; returns when to be called again. `known` are the pids that we forked ourselves."""
        if now < self._next_look:
            return self._next_look
        self._told = {process: since for process, since in self._told.items() if there(process)}
        for process in psutil.Process().children():
            if process.pid not in known:
                self._consider(process, now)
        looking = now < self._last_look or bool(self._told)
        self._next_look = now + PAUSE if looking else math.inf
        if not looking:
            self._dead_workers.clear()
        return self._next_look

    def _consider(self, process: psutil.Process, now: float) -> None:
        with suppress(psutil.Error, OSError):
            worker = self._worker_of(process)
            if worker is None:
                return
            since = self._told.setdefault(process, now)
            if since == now:
                logger.warning("ending process %d, left behind by worker %d", process.pid, worker)
                process.send_signal(signal.SIGTERM)
                process.send_signal(signal.SIGCONT)
            elif now - since >= PATIENCE:
                process.kill()

    def _worker_of(self, process: psutil.Process) -> int | None:
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        for worker in (os.getsid(process.pid), os.getpgid(process.pid)):
            if worker in self._dead_workers:
                return worker
        marked = process.environ().get(COOKIE, "")
        # Only a worker of ours: the whole service may itself have been started by a task of another one.
        return int(marked) if marked.isdecimal() and int(marked) in self._dead_workers else None
