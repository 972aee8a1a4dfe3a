"""Processes that a task started and its worker left behind: found among all of the machine, and ended.

Known by the session of their worker, or by the mark that it put into their environment. Not by their parents: the
kernel forgets those as they die, and a family whose shells end one by one would be seen one generation at a time. A
program that must outlive its worker says so: a new session, and that variable unset.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import suppress

import psutil

from docket import clock
from docket_supervisor.vitality import there

logger = logging.getLogger("docket.supervisor")

COOKIE = "DOCKET_WORKER_PROCESS"
"""Inherited by every program that a task starts, so that it is known whose it was when it is orphaned."""

PATIENCE = 1.5
"""Seconds from a worker's death until what it left behind is killed: all of it, whenever it was found or born."""
PAUSE = 0.25
"""Seconds between two looks: a stray that is killed may leave strays of its own."""


def mark(worker: int, supervisor: int) -> str:
    """The value of the cookie. One pid alone would not do: services in containers have numbers of their own, and may be
    seen from here."""
    return f"{worker}@{supervisor}"


class Strays:
    """Looks only for a while after a worker has died, for it has to read the machine's list of processes."""

    def __init__(self, supervisor: int) -> None:
        """Its pid, whoever looks."""
        self._supervisor = str(supervisor)
        self._dead_workers: dict[int, float] = {}
        """And when what they left behind is killed."""
        self._told: set[psutil.Process] = set()
        self._pending = False
        self._next_look = math.inf

    def orphaned_by(self, worker: int, now: float, latest: float = math.inf) -> None:
        """What it left behind is asked to end, and killed before long, or at this instant if that is earlier."""
        self._dead_workers[worker] = min(now + PATIENCE, latest)
        self._pending = True
        self._next_look = now

    def orphaned_before(self, now: float, living: Collection[int], latest: float) -> None:
        """The same for every worker of the service whose death somebody else has seen, and then not ended this."""
        for process in _everybody():
            with suppress(psutil.Error, OSError):
                worker = self._marked_by(process)
                if worker and worker not in living and process.pid != worker:
                    self.orphaned_by(worker, now, latest)

    @property
    def dead_workers(self) -> frozenset[int]:
        """Those whose strays are being looked for."""
        return frozenset(self._dead_workers)

    @property
    def pending(self) -> bool:
        """There were some at the last look, or a worker has died since."""
        return self._pending

    @property
    def next_look(self) -> float:
        return self._next_look

    def turn(self, now: float, known: Collection[int]) -> float:
        """Ends what is found; returns when to be called again. `known` are never strays."""
        if now >= self._next_look:
            self._look(now, known)
        return self._next_look

    def none_left(self, now: float, known: Collection[int]) -> bool:
        """Before nobody looks any more: the last look was a while ago, and may have missed who was just being born."""
        if self._dead_workers and not self._pending:
            self._look(now, known)
        return not self._pending

    def _look(self, now: float, known: Collection[int]) -> None:
        found: set[psutil.Process] = set()
        owners: set[int] = set()
        for process in _everybody() if self._dead_workers else ():
            with suppress(psutil.Error, OSError):
                worker = None if process.pid in known else self._left_by(process)
                if worker is not None:
                    # Fails for who may not be told, being another user's: there is nothing to wait for.
                    self._end(process, worker, now)
                    found.add(process)
                    owners.add(worker)
        self._told &= found
        self._pending = bool(found)
        self._dead_workers = {
            worker: kill_at
            for worker, kill_at in self._dead_workers.items()
            if worker in owners or now < kill_at + PATIENCE
        }
        next_kill = min((at for at in self._dead_workers.values() if at > now), default=math.inf)
        self._next_look = min(now + PAUSE, next_kill) if self._dead_workers else math.inf

    def _end(self, process: psutil.Process, worker: int, now: float) -> None:
        if now >= self._dead_workers[worker]:
            process.kill()
        elif process not in self._told:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGCONT)
        if process not in self._told:
            self._told.add(process)
            logger.warning("ending process %d, left behind by worker %d", process.pid, worker)

    def _left_by(self, process: psutil.Process) -> int | None:
        worker = os.getsid(process.pid)
        if worker not in self._dead_workers:
            worker = self._marked_by(process)
        if worker not in self._dead_workers or worker == process.pid or not there(process):
            return None
        # A pid is not given away while there is a session of that number, so this one is of whoever has it now.
        return None if worker != os.getpid() and _lives(worker) else worker

    def _marked_by(self, process: psutil.Process) -> int:
        """The worker of ours that started it; 0: none did."""
        worker, _, supervisor = process.environ().get(COOKIE, "").partition("@")
        return int(worker) if supervisor == self._supervisor and worker.isdecimal() else 0


def end_own(supervisor: int) -> None:
    """What this process, a worker that leaves after its supervisor, would leave behind. Returns when that is gone."""
    strays, us = Strays(supervisor), os.getpid()
    now = clock.monotonic()
    strays.orphaned_by(us, now)
    gives_up = now + 2 * PATIENCE
    while strays.pending and now < gives_up:
        next_look = strays.turn(now, (us,))
        if strays.pending:
            time.sleep(max(0.0, next_look - now))
        now = clock.monotonic()


def _everybody() -> Iterator[psutil.Process]:
    """Not `psutil.process_iter`, which keeps all of them for the next time: the supervisor stays small."""
    for pid in psutil.pids():
        with suppress(psutil.Error):
            yield psutil.Process(pid)


def _lives(pid: int) -> bool:
    try:
        return there(psutil.Process(pid))
    except psutil.Error:
        return False
