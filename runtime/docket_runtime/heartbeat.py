"""Once a second the loop shows that it turns."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docket_runtime.worker import Worker

INTERVAL = 1.0


class Heartbeat:
    """Ticks the board, and has the process title say how busy it is, when that has changed."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._shown: tuple[int, int] | None = None

    async def run(self) -> None:
        while True:
            self._worker.surroundings.board.tick()
            in_threads = self._worker.claims.in_threads
            busy = (len(self._worker.claims) - in_threads, in_threads)
            if busy != self._shown:
                self._shown = busy
                self._worker.surroundings.titled(*busy)
            await asyncio.sleep(INTERVAL)
