"""Threads that run on although what they run was told to end: counted, shown, and no reason to run anything twice."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from docket import clock

if TYPE_CHECKING:
    from docket_runtime.worker import Worker

_LOG = logging.getLogger("docket.worker")

_NEIGHBOURS_GRACE = timedelta(seconds=10)
"""What the others are given to finish in a process that has to be replaced for one of them."""


class Abandonment:
    """An abandoned thread keeps its slot, so that there are never more of them than the worker has threads. Under a
    supervisor, that replaces the process; alone, a worker that is the program of its process replaces itself."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._told: set[str] = set()

    def look(self) -> None:
        worker = self._worker
        if not worker.claims.in_threads and not self._told:
            return
        abandoned = [flight for flight in worker.claims if flight.abandoned]
        worker.surroundings.board.abandoned(len(abandoned))
        supervised = worker.surroundings.vouched()
        for flight in abandoned:
            if flight.claimed.entry not in self._told:
                _LOG.warning(
                    "%s (%s) was told to end %s and runs on: %d of %d threads are abandoned%s",
                    flight.claimed.key,
                    flight.claimed.function,
                    "at its time limit" if flight.timed_out else "by a cancellation",
                    len(abandoned),
                    worker.threads.most,
                    "" if supervised or worker.surroundings.anew else _STAYS,
                )
        self._told = {flight.claimed.entry for flight in abandoned}
        if worker.surroundings.anew and not supervised and not worker.drain.asked.is_set():
            self._begin_anew_if_need_be(len(abandoned))

    def _begin_anew_if_need_be(self, abandoned: int) -> None:
        worker = self._worker
        if abandoned < worker.threads.most and not any(flight.cannot_be_ended for flight in worker.claims):
            return
        patience = worker.settings.drain_timeout
        grace = _NEIGHBOURS_GRACE if patience is None else min(patience, _NEIGHBOURS_GRACE)
        _LOG.warning(
            "there is no supervisor to replace this process: it claims nothing any more, begins anew when the others "
            "have ended, in %gs at most, and settles then what did not end",
            grace.total_seconds(),
        )
        worker.begins_anew = True
        worker.drain.ask(clock.monotonic() + grace.total_seconds())


_STAYS = "; its slot stays taken, and its outcome waits, until it has ended"
