"""A pipe that nobody ever writes to: it ends when the supervisor does, however it does."""

from __future__ import annotations

import os
import select


class Lifeline:
    """`reader` is inherited by every worker; the write end must be held by the supervisor alone."""

    def __init__(self, ends: tuple[int, int] | None = None) -> None:
        """`ends`: those of an earlier supervisor, which this one has taken the place of."""
        self.reader, self._writer = ends or os.pipe()

    @property
    def ends(self) -> tuple[int, int]:
        return self.reader, self._writer

    def close(self) -> None:
        """Let go of the write end: what a child does after the fork."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    @property
    def severed(self) -> bool:
        """The supervisor is gone. Does not read, so that every process sees it as often as it asks."""
        poll = select.poll()
        poll.register(self.reader, select.POLLIN)
        return bool(poll.poll(0))
