"""Every quarter of a second the loop shows that it turns."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from docket import clock
from docket_runtime.abandonment import Abandonment
from docket_runtime.loopwatch import LoopWatch

if TYPE_CHECKING:
    from docket_runtime.worker import Worker

INTERVAL = 0.25
_TITLED_EVERY = 4
"""Ticks: a title is for human eyes."""


class Heartbeat:
    """Ticks the board, and has the process title say how busy it is, when that has changed."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._shown: tuple[int, int] | None = None
        self._standing_down = False

    async def run(self) -> None:
        worker = self._worker
        watch = LoopWatch(worker.claims, lambda: not worker.surroundings.vouched())
        abandonment = Abandonment(worker)
        watch.start()
        try:
            ticks = 0
            due = clock.monotonic()
            while True:
                worker.surroundings.board.tick(max(0.0, clock.monotonic() - due))
                watch.turned()
                abandonment.look()
                self._heed()
                if ticks % _TITLED_EVERY == 0:
                    self._show()
                ticks += 1
                due = clock.monotonic() + INTERVAL
                await asyncio.sleep(INTERVAL)
        finally:
            watch.close()

    def _heed(self) -> None:
        """Nothing else tells the exchange that it may claim again."""
        before, self._standing_down = self._standing_down, self._worker.surroundings.board.standing_down
        if before and not self._standing_down:
            self._worker.exchange.look()

    def _show(self) -> None:
        in_threads = self._worker.claims.in_threads
        busy = (len(self._worker.claims) - in_threads, in_threads)
        if busy != self._shown:
            self._shown = busy
            self._worker.surroundings.titled(*busy)
