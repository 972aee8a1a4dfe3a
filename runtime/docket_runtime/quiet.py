"""Whether the worker may claim, as its board says: quiet, it keeps what it runs and takes nothing new."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docket_runtime.worker import Worker


class Quiet:
    """The board is looked at when the run begins and at every `look`: whoever writes there sends a signal after it."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._looked = asyncio.Event()

    @property
    def phase(self) -> str:
        return "quiet" if self._worker.is_quiet else "working"

    def look(self) -> None:
        self._looked.set()

    def begin(self) -> None:
        """A worker born into a quiet service claims nothing, not even at first."""
        if self._worker.surroundings.board.quiet:
            self._worker.be_quiet()

    async def run(self) -> None:
        while True:
            self._looked.clear()
            await self._obey()
            await self._looked.wait()

    async def _obey(self) -> None:
        worker = self._worker
        quiet = worker.surroundings.board.quiet
        # A drain is quiet for good.
        if worker.drain.asked.is_set() or quiet == worker.is_quiet:
            return
        if quiet:
            worker.be_quiet()
            # A blocked read would still be given the next entry, and would have to give it back.
            await worker.unblock()
        else:
            worker.resume()
        if not worker.drain.asked.is_set():
            worker.surroundings.board.phase(self.phase)
