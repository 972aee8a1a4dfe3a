"""Every quarter of a second the loop shows that it turns, and what the worker has learnt is told; less often while it
rests."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from docket import clock
from docket_runtime.abandonment import Abandonment
from docket_runtime.dumping import dump_instead
from docket_runtime.loopwatch import LoopWatch

if TYPE_CHECKING:
    from docket_runtime.worker import Worker

INTERVAL = 0.25
_AT_REST = 2.0
_RESTS_AFTER = 2.0
"""Seconds without a claim; only under a supervisor, whose sight of the worker does not depend on these ticks alone."""
_TITLED_EVERY = 1.0
"""Seconds: a title is for human eyes."""


class Heartbeat:
    """Ticks the board, and has the process title say how busy it is, when that has changed."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        around = worker.surroundings
        self._watch = LoopWatch(
            worker.claims,
            lambda: not around.vouched(),
            lambda: dump_instead(around.stacks, around.board.stacks_asked_at),
        )
        self._abandonment = Abandonment(worker)
        self._shown: tuple[int, int] | None = None
        self._titled_at = 0.0
        self._standing_down = False
        self._busy_at = clock.monotonic()
        self._roused = asyncio.Event()
        self._rests = False

    async def run(self) -> None:
        worker = self._worker
        worker.claims.roused = self._rouse
        self._watch.start()
        try:
            due = clock.monotonic()
            while True:
                now = clock.monotonic()
                self._consider_rest(now)
                pause = _AT_REST if self._rests else INTERVAL
                worker.surroundings.board.tick(max(0.0, now - due), pause)
                self._watch.turned()
                self._abandonment.look()
                self._heed()
                worker.tell_of_new_tasks()
                if now - self._titled_at >= _TITLED_EVERY - INTERVAL / 2:
                    self._titled_at = now
                    self._show()
                due = clock.monotonic() + pause
                await self._sleep(pause)
        finally:
            worker.claims.roused = lambda: None
            self._watch.close()

    async def _sleep(self, pause: float) -> None:
        if not self._rests:
            await asyncio.sleep(pause)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._roused.wait()

    def _consider_rest(self, now: float) -> None:
        """Nobody is woken four times a second to show that nothing blocks a loop on which nothing runs."""
        if self._worker.claims or not self._worker.surroundings.vouched():
            self._busy_at = now
        if self._rests == (now - self._busy_at >= _RESTS_AFTER):
            return
        self._rests = not self._rests
        if self._rests:
            self._roused.clear()
            self._watch.rest()
        else:
            self._watch.rouse()

    def _rouse(self) -> None:
        """At once, before anything of a task runs: what it blocks must be seen from the beginning."""
        if self._rests:
            self._rests = False
            self._busy_at = clock.monotonic()
            self._worker.surroundings.board.tick(0.0, INTERVAL)
            self._watch.rouse()
            self._roused.set()

    def _heed(self) -> None:
        """Nothing else tells the exchange that it may claim again."""
        before, self._standing_down = self._standing_down, self._worker.surroundings.board.standing_down
        if before and not self._standing_down:
            self._worker.look()

    def _show(self) -> None:
        in_threads = self._worker.claims.in_threads
        busy = (len(self._worker.claims) - in_threads, in_threads)
        if busy != self._shown:
            self._shown = busy
            self._worker.surroundings.titled(*busy)
