"""What the steward does when the supervisor has died: watches the workers drain, ends those who cannot, and what they
leave behind."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

import psutil

from docket_supervisor.board import Seat
from docket_supervisor.messages import HandOver
from docket_supervisor.settings import RESERVED_SECONDS, SupervisorSettings
from docket_supervisor.strays import Strays
from docket_supervisor.vitality import there

logger = logging.getLogger("docket.steward")

LAST_LOOKS = 0.5
"""Seconds for strays to be killed in, before we leave: those of a worker that we had to kill get less patience."""


class Orphanage:
    """Processes are remembered by identity from the moment it opens: a pid alone may soon be somebody else's."""

    def __init__(self, settings: SupervisorSettings, seats: Sequence[Seat]) -> None:
        self._drain = settings.drain_timeout.total_seconds()
        self._margin = settings.kill_margin.total_seconds()
        self._seats = seats
        self._strays = Strays(os.getppid())
        self._orphans: dict[int, psutil.Process] = {}
        self._drained_by: dict[int, float] = {}
        """Until when each may stay; one that was told before, because it retires or recycles, has been told when."""
        self._close_at = math.inf
        self._killed: set[int] = set()

    def open(self, now: float) -> None:
        in_full = now + self._drain
        taken = [(number, pid) for number, seat in enumerate(self._seats) if (pid := seat.pid)]
        self._drained_by = {
            number: min(in_full, self._seats[number].drain_at or in_full) for number, _ in taken
        }
        self._close_at = max(self._drained_by.values(), default=in_full) + RESERVED_SECONDS
        for number, pid in taken:
            try:
                self._orphans[number] = psutil.Process(pid)
            except psutil.Error:
                self._left_behind_by(pid, now)
        self._strays.orphaned_before(now, self._known, self._close_at - LAST_LOOKS)
        logger.warning("supervisor is gone; staying until %d workers have drained", len(self._orphans))

    def open_still(self, now: float, orders: Collection[int]) -> bool:
        return now < self._close_at and bool(self._orphans or orders or self._strays.pending)

    @property
    def _known(self) -> set[int]:
        return {os.getpid(), *(process.pid for process in self._orphans.values())}

    def _left_behind_by(self, worker: int, now: float) -> None:
        self._strays.orphaned_by(worker, now, self._close_at - LAST_LOOKS)

    def round(self, now: float) -> Iterator[HandOver]:
        """Orders for those who have died since the last round without giving up what they held."""
        for number, process in list(self._orphans.items()):
            if there(process):
                if now >= self._drained_by[number] + self._margin and number not in self._killed:
                    self._killed.add(number)
                    logger.warning("killing worker %d, which outlived the drain deadline", process.pid)
                    with suppress(psutil.Error):
                        process.kill()
                continue
            del self._orphans[number]
            self._left_behind_by(process.pid, now)
            seat = self._seats[number]
            if name := seat.worker_id:
                # Who was there until its time was up has not been killed by what it ran.
                late = now >= self._drained_by[number]
                cause = "worker process outlived the drain deadline" if late else "worker process died"
                started = [] if late else [running.entry for running in seat.inflight]
                # Not to be mixed up with the supervisor's orders, which are numbered from 1 upwards.
                yield HandOver(-1 - number, name, f"{cause}, after its supervisor", started)
        self._strays.turn(now, self._known)
