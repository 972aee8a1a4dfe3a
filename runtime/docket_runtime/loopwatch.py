"""Names what blocks the event loop: which execution, and the line of the application at which it stands.

A thread looks, because the loop cannot. A C call that holds the interpreter lock keeps this thread from looking too; it
then looks in the very moment in which that call returns, and sees the same line. (As measured, one time in forty
CPython does not hand the lock over then: if the loop turns next, nobody is named.)
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from docket import clock, stacks
from docket.stacks import Frame
from docket_runtime.claims import Claims
from docket_runtime.shares import Shares

_LOG = logging.getLogger("docket.worker")

INTERVAL = 0.25
TOLERATED = 0.5
"""Seconds for which nobody minds that the loop stands still."""
_LONG = 5.0
"""Seconds after which it is said before it is over; under a supervisor, that says it."""

_TURN = 0.02
"""Seconds that each thread that computes may keep the loop from its next turn; five milliseconds in theory, ten as
measured with fifty threads and with two hundred."""
_COMPUTING = 0.3
"""The share of the time that others than the loop have spent when they were what kept it."""

_ADVICE = "make it a plain def, which runs in a thread"
_ADVICE_TO_MANY = "they compute by turns: take fewer threads, or more processes"


@dataclass(frozen=True)
class _Blocked:
    turned_at: float
    since: float
    who: str
    at: Frame | None
    crowd: int = 0
    """So many sync executions took turns meanwhile, and nobody else is to blame."""


class LoopWatch:
    """`turned` is called on the loop, again and again; what blocked it is told when it turns again."""

    def __init__(
        self,
        claims: Claims | Shares,
        alone: Callable[[], bool],
        instead: Callable[[], object] = lambda: None,
    ) -> None:
        """`instead` is called again and again while the loop stands still: what else its thread cannot do now."""
        self._claims, self._alone, self._instead = claims, alone, instead
        self._turned_at = clock.monotonic()
        self._loop_thread = threading.get_ident()
        self._spent = clock.spent_beside(self._loop_thread)
        self._blocked: _Blocked | None = None
        self._told_at = 0.0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._watching = threading.Event()
        self._watching.set()
        self._thread = threading.Thread(target=self._run, name="docket loop watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def rest(self) -> None:
        """Nothing runs on the loop that could block it, and it turns less often: nobody looks until `rouse`."""
        self._watching.clear()

    def rouse(self) -> None:
        self.turned()
        self._watching.set()

    def close(self) -> None:
        self._closing.set()
        self._watching.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1)

    def turned(self) -> None:
        spent = clock.spent_beside(self._loop_thread)
        with self._lock:
            before, self._turned_at, self._spent = self._turned_at, clock.monotonic(), spent
            blocked, self._blocked = self._blocked, None
        if blocked is not None and blocked.turned_at == before:
            self._tell(blocked, self._turned_at)

    def _tell(self, blocked: _Blocked, until: float) -> None:
        seconds = until - blocked.since
        if seconds >= TOLERATED:
            _LOG.warning("%s", _told(blocked, f"blocked the loop for {seconds:.1f} s"))

    def _run(self) -> None:
        while not self._closing.wait(INTERVAL):
            if self._watching.is_set():
                self._check()
            else:
                self._watching.wait()

    def _check(self) -> None:
        # Read once: the loop takes it away in the moment in which it turns again.
        turned_at, blocked = self._turned_at, self._blocked
        silent = clock.monotonic() - turned_at
        if silent < TOLERATED:
            return
        if blocked is None or blocked.turned_at != turned_at:
            self._note(turned_at, self._look(turned_at, silent))
        elif silent >= _LONG and self._told_at != turned_at and self._alone():
            self._told_at = turned_at
            so_far = f"has been blocking the loop for {silent:.0f} s"
            _LOG.warning("%s; leases are renewed all the same", _told(blocked, so_far))
        self._instead()  # last: whatever writes gives the interpreter lock away, and then there is nothing left to see

    def _note(self, turned_at: float, blocked: _Blocked | None) -> None:
        """Kept for when the loop turns again, unless it has done so while somebody looked: then it is told here."""
        with self._lock:
            turned_again = self._turned_at if self._turned_at != turned_at else None
            if turned_again is None:
                self._blocked = blocked
        if turned_again is not None and blocked is not None:
            self._tell(blocked, turned_again)

    def _crowd(self, silent: float) -> int:
        """How many sync executions leave the loop no turn; 0: they are too few for that, or do not compute."""
        in_threads = self._claims.in_threads
        computing = clock.spent_beside(self._loop_thread) - self._spent > _COMPUTING * silent
        return in_threads if computing and silent < _TURN * in_threads else 0

    def _look(self, turned_at: float, silent: float) -> _Blocked | None:
        # First of all, and who flies before where the loop stands: it may go on in any moment.
        flights = {flight.place: flight for flight in self._claims}
        frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage] - documented, underscore and all
        stack = stacks.live(frames.get(self._loop_thread))
        if crowd := self._crowd(silent):
            return _Blocked(turned_at, turned_at, "", None, crowd)
        place = stacks.place_of(stack)
        flight = None if place is None else flights.get(place)
        at = stacks.application_frame(stacks.inside(stack))
        if at is None or stacks.is_standard(at):
            # We ourselves, on somebody's behalf or on nobody's, or what we called (to log, to load): whatever kept us
            # from going on, it is not his doing.
            return None
        if flight is None or flight.in_thread:
            if self._turned_at != turned_at:
                return None  # it has gone on, so this may be half a stack
            # No body of an execution: the application around an embedded worker, or a callback that a task left behind.
            return _Blocked(turned_at, turned_at, "", at)
        # It cannot have blocked the loop before it was claimed, which is more exact than the last tick.
        since = max(turned_at, flight.claimed_at)
        return _Blocked(turned_at, since, f"{flight.claimed.key} ({flight.claimed.function})", at)


def _told(blocked: _Blocked, what: str) -> str:
    if blocked.crowd:
        return f"a crowd of {blocked.crowd} sync tasks in threads {what}; {_ADVICE_TO_MANY}"
    where = "" if blocked.at is None else f" at {blocked.at}"
    if not blocked.who:
        return f"something that is no execution {what}{where}"
    return f"{blocked.who} {what}{where}; {_ADVICE}"
