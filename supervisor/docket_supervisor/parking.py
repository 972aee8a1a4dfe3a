"""A spare waits here, with everything imported and nothing begun, until there is a slot for it."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress

from docket_supervisor.board import Seat
from docket_supervisor.lifeline import Lifeline


def parked(seat: Seat, lifeline: Lifeline) -> int | None:
    """The slot that this process is to stand for from now on, as soon as CONT says to look; None: it is to leave.

    Without a timer: a spare is there all the time, and costs nothing while it is not needed.
    """
    leaving: list[int] = []
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda number, frame: leaving.append(number)),
        signal.SIGCONT: signal.signal(signal.SIGCONT, lambda number, frame: None),
    }
    # A signal that comes right before the wait must still end it.
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    ready = select.poll()
    ready.register(reader, select.POLLIN)
    ready.register(lifeline.reader, select.POLLIN)
    try:
        while not leaving and not lifeline.severed and seat.assigned is None:
            ready.poll()
            with suppress(BlockingIOError):
                os.read(reader, 1024)
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
    # Last, for TERM may have come right behind the slot: nobody would say it again.
    return None if leaving or lifeline.severed else seat.assigned
