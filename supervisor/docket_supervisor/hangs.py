"""What is done about a worker whose loop does not turn, and about an execution past its limit: tables, no processes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from docket_supervisor.board import TICK, InFlight

TIMEOUT_GRACE = 2.0
"""Seconds that a body has to end after its time limit, once it was told to."""
NEIGHBOURS_GRACE = 10.0
"""Seconds that the others have to finish in a process that must be killed for one of them."""
LAST_LOOK = 2 * TICK
"""Seconds that stacks are waited for before the kill; nobody in the process looks more often than once a tick."""
_NEVER = 60.0
"""What the earlier steps go by when nobody is to be killed."""


class Step(Enum):
    """In this order; each is taken once, until the loop turns again."""

    REPORT = auto()
    STAND_DOWN = auto()
    """It is fed no more: it claims and begins nothing, should it turn again."""
    DUMP = auto()
    """Its stacks go to the log, and say who blocks it."""
    EVACUATE = auto()
    """What it was given and has not begun goes to others."""
    LAST_LOOK = auto()
    """Its stacks once more, for what follows is blamed on what is seen there."""
    KILL = auto()


@dataclass(frozen=True)
class Ladder:
    """Each step with the seconds by which the loop is late then. Killing waits a moment for the last look."""

    steps: tuple[tuple[float, Step], ...]

    @classmethod
    def of(cls, hang_timeout: float) -> Ladder:
        """`hang_timeout` 0: nobody is killed."""
        whole = hang_timeout or _NEVER
        steps = [
            (min(2.0, whole / 12), Step.REPORT),
            (min(3.0, whole / 8), Step.STAND_DOWN),
            (min(4.0, whole / 6), Step.DUMP),
            (min(5.0, whole / 4), Step.EVACUATE),
        ]
        if hang_timeout:
            steps += [(hang_timeout, Step.LAST_LOOK), (hang_timeout + LAST_LOOK, Step.KILL)]
        return cls(tuple(steps))

    def due(self, late: float, taken: int) -> tuple[Step, ...]:
        """What is to be done now by a worker for which so many steps have been taken."""
        return tuple(step for after, step in self.steps[taken:] if late >= after)

    @property
    def patience(self) -> float:
        """The longest that a loop may be late without anything having been done about it."""
        return self.steps[-1][0] if self.steps[-1][1] is Step.KILL else math.inf


def lateness(now: float, ticked_at: float, watched_since: float, pause: float = TICK) -> float:
    """By how much a loop is late that was to tick again after this pause. What happened before somebody watched does
    not count: a supervisor that was itself stopped, or a machine that slept, finds every tick old, and no worker is to
    blame."""
    return now - max(ticked_at, watched_since) - pause


def too_late(running: Sequence[InFlight], now: float, blocking: int | None = None) -> list[InFlight]:
    """Bodies that did not end when their time limit told them to, and cannot be ended but with their process: those in
    threads, and the one in the place `blocking`, which keeps the loop from telling it."""
    return [
        each
        for each in running
        if (each.thread or each.place == blocking)
        and each.limit is not None
        and now >= each.limit.deadline + TIMEOUT_GRACE
    ]


def blockers(running: Sequence[InFlight], place: int | None) -> list[InFlight]:
    """Which executions a loop that does not turn is blamed on: the one that its stack shows.

    If it shows none, a thread may hold the interpreter lock inside a C call, so what runs in threads is suspect; and if
    there is none of these, all that runs on the loop. Suspects are tried alone, so the innocent ones are cleared.
    """
    shown = [each for each in running if each.place == place and not each.thread]
    in_threads = [each for each in running if each.thread]
    return shown or in_threads or list(running)


def slow_reports(age: float, slow_after: float) -> int:
    """How many times an execution of this age has become slow: at the limit, and whenever its age has doubled since."""
    return 0 if not slow_after or age < slow_after else 1 + int(math.log2(age / slow_after))
