"""The book of what this worker holds: its slots, and every delivery it has claimed and not yet settled."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from docket import clock
from docket.interruption import Interruption
from docket.message import Claimed

if TYPE_CHECKING:
    from docket_runtime.desk import Desk

_STOPPED_EARLY = 1000
"""Of so many it is remembered. Most of them had ended here already, and are not heard of again."""
TIMEOUT_GRACE = 2.0
"""Seconds that a body in a thread has to end after its time limit."""


@dataclass(slots=True, eq=False)
class Flight:
    """One claimed delivery on its way to an outcome.

    `stopped`: cancelled by somebody, its outcome no longer counts. `interrupted`: stopped by our own drain.
    `interruption` reaches the thread of a sync task.
    """

    claimed: Claimed
    place: int
    claimed_at: float = field(default_factory=clock.monotonic)
    task: asyncio.Task[None] | None = None
    begun: bool = False
    counted_from: float | None = None
    """The monotonic instant at which this run was counted as started."""
    raised: bool = False
    in_thread: bool = False
    """Its body runs in a thread, or waits for one."""
    awaits_thread: bool = False
    """No thread has it yet. The thread itself says when it has."""
    stopped: bool = False
    interrupted: bool = False
    timed_out_at: float = 0.0
    asked_to_end_at: float = 0.0
    if_too_late: tuple[str, int] = ("failed", 0)
    """How it is settled if its process has to end for it: a verb and its operand."""
    allowed: timedelta = timedelta(0)
    interruption: Interruption | None = None
    desk: Desk = field(init=False)
    """Where it was claimed, and is settled."""

    def time_out(self) -> None:
        """The body has run longer than its task allows."""
        if not self.stopped and not self.interrupted:
            self.timed_out_at = clock.monotonic()
            self.stop()

    @property
    def timed_out(self) -> bool:
        return bool(self.timed_out_at)

    @property
    def cannot_be_ended(self) -> bool:
        """Its thread was told to end at its time limit, and did not; what it shields is waited for longer."""
        return (
            self.in_thread
            and self.timed_out
            and clock.monotonic() - self.timed_out_at >= TIMEOUT_GRACE
            and not (self.interruption is not None and self.interruption.shielded)
        )

    @property
    def abandoned(self) -> bool:
        """Its thread was told to end, for whatever reason, and runs on."""
        return self.in_thread and 0 < self.asked_to_end_at <= clock.monotonic() - TIMEOUT_GRACE

    def stop(self) -> None:
        """The body is asked to end: an async one at its next await, a sync one by an exception in its thread. If it
        still waits for a thread it ends here and now."""
        self.asked_to_end_at = self.asked_to_end_at or clock.monotonic()
        if self.interruption is not None:
            self.interruption.request()
        # Last of all: a thread that has it only now looks at the request before it begins, and begins nothing.
        if self.begun and self.task is not None and (self.awaits_thread or not self.in_thread):
            self.task.cancel()


class Claims:
    """Slots and flights. Nothing here talks to Redis."""

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency
        # The longest free is taken first: what ended in it has been settled by then, so on the board nobody's entry is
        # written over while others may have to know that it was begun.
        self._free = deque(range(concurrency))
        self._flights: dict[str, Flight] = {}
        self._busy_threads = 0
        # Cancelled before the claim was heard of here: the two are told over different connections.
        self._stopped_early: dict[str, None] = {}
        self.emptied = asyncio.Event()
        self.emptied.set()
        self.roused: Callable[[], object] = lambda: None
        """Called when there is a claim and there was none."""

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def allowance(self) -> int:
        """How many of the free slots may be filled."""
        return len(self._free)

    @property
    def idle(self) -> bool:
        """The worker runs nothing."""
        return len(self._free) == self.concurrency

    @property
    def must_wait(self) -> bool:
        """There may be work, and a slot for it is free, but another's turn it is."""
        return False

    def pass_on(self) -> None:
        """What has just been claimed is less than was asked for: what is left is anybody's."""

    def __len__(self) -> int:
        return len(self._flights)

    def __iter__(self) -> Iterator[Flight]:
        return iter(tuple(self._flights.values()))

    def __contains__(self, entry: str) -> bool:
        return entry in self._flights

    @property
    def entries(self) -> list[str]:
        return list(self._flights)

    @property
    def in_threads(self) -> int:
        return self._busy_threads

    def take(self, claimed: Claimed) -> Flight:
        flight = Flight(claimed, self._free.popleft())
        self._flights[claimed.entry] = flight
        if self._stopped_early and self._stopped_early.pop(claimed.entry, 0) is None:
            flight.stopped = True
        if self.emptied.is_set():
            self.emptied.clear()
            self.roused()
        return flight

    @property
    def unbegun(self) -> int:
        """So many were taken so recently that nobody has looked yet what they are."""
        unbegun = 0
        for flight in reversed(self._flights.values()):  # they begin in the order in which they were taken
            if flight.begun:
                break
            unbegun += 1
        return unbegun

    def entered_thread(self, flight: Flight) -> None:
        flight.in_thread = flight.awaits_thread = True
        self._busy_threads += 1

    def left_thread(self, flight: Flight) -> None:
        flight.in_thread = flight.awaits_thread = False
        self._busy_threads -= 1

    def release(self, flight: Flight) -> None:
        """The body has ended; its slot is free."""
        del self._flights[flight.claimed.entry]
        self._free.append(flight.place)
        if len(self._free) == self.concurrency:
            self.emptied.set()

    def stop(self, entry: str) -> bool:
        """Somebody cancelled this delivery. False if it is not here, or not yet: then it will not begin."""
        flight = self._flights.get(entry)
        if flight is None:
            if len(self._stopped_early) == _STOPPED_EARLY:
                del self._stopped_early[next(iter(self._stopped_early))]
            self._stopped_early[entry] = None
            return False
        if not flight.stopped:
            flight.stopped = True
            flight.stop()
        return True
