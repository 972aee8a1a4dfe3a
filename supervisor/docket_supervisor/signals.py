"""Signals as something to read: handlers that only wake the loop, which then asks what happened."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable
from io import FileIO


class Signals:
    """From now on these signals do nothing but become readable here."""

    def __init__(self, wanted: Iterable[signal.Signals]) -> None:
        # Not a pair of sockets, which is full after some 280 bytes: what a dead worker has started may die in one turn
        # of ours, in hundreds, and a TERM among all the CHLD must find room.
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        self._reader, self._writer = FileIO(reader), FileIO(writer, "w")
        # Python writes the number from within the C handler; it does so only for signals that have a Python handler.
        self._before_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, lambda number, frame: None) for number in wanted}

    def fileno(self) -> int:
        return self._reader.fileno()

    def receive(self) -> list[signal.Signals]:
        """What has arrived, in order. Repeated CHLD are one: look for every dead child."""
        arrived: list[signal.Signals] = []
        while numbers := self._reader.read(4096):
            arrived += [signal.Signals(number) for number in numbers]
        return arrived

    def waiting(self) -> bool:
        """True if `receive` would find something."""
        ready = select.poll()
        ready.register(self._reader, select.POLLIN)
        return bool(ready.poll(0))

    def close(self) -> None:
        """What a child does after the fork; its handlers are reset there anyway."""
        self._reader.close()
        self._writer.close()

    def restore(self) -> None:
        """As before, for a caller that lives on (tests)."""
        signal.set_wakeup_fd(self._before_fd)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.close()
