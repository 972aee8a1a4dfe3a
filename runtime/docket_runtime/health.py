"""Whether one worker that is alone is well, as whoever watches over it asks over HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from docket import clock
from docket_runtime.ports import Checks

if TYPE_CHECKING:
    from docket_runtime.worker import Worker

_TURN = 0.5
_BLOCKED = 5.0
"""Seconds without a turn of the loop after which the worker is not alive. Redis being away is no reason: to start the
worker again would not help."""


class Health:
    """Asked from the threads of a server; only reads."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._turned_at = clock.monotonic()
        self._was_ready = False

    @property
    def checks(self) -> Checks:
        return {"": self.live, "/live": self.live, "/ready": self.ready, "/startup": self.startup}

    async def watch(self) -> None:
        while True:
            self._turned_at = clock.monotonic()
            self._was_ready = self._was_ready or not self._worker.hindrance
            await asyncio.sleep(_TURN)

    def live(self) -> str:
        age = clock.monotonic() - self._turned_at
        return f"the event loop has not turned for {age:.1f} s" if age > _BLOCKED else ""

    def ready(self) -> str:
        return self.live() or self._worker.hindrance

    def startup(self) -> str:
        """It stays started."""
        return "" if self._was_ready else self._worker.hindrance
