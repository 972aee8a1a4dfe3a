"""Whether and when a slot gets another worker: backoff and budget, without a clock or a process."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

FIRST_DELAY = 0.1
LONGEST_DELAY = 10.0
YOUNG = 10.0
"""Seconds; a worker that lived longer than this did come up, whatever it died of."""


@dataclass(frozen=True)
class Life:
    """What is known about a worker that has died."""

    seconds: float
    settled: int
    explained: bool
    """An execution was running, and is held to account for it: the crash count of executions takes over."""
    started: int = 0
    ready: bool = True
    """It had come up; one that never did within the boot timeout has failed, however long that is."""

    @property
    def counts(self) -> bool:
        return not self.explained and self.settled == 0 and (self.seconds < YOUNG or not self.ready)


@dataclass(frozen=True)
class Restart:
    after: float


@dataclass(frozen=True)
class GiveUp:
    restarts: int


@dataclass
class Restarts:
    """The budget of one slot: `limit` restarts within `window`, of workers that never got anywhere.

    The first restart comes at once, then after 0.1 s doubling to 10 s, with full jitter, so that slots which fail for
    one common cause do not come back in step.
    """

    limit: int
    window: timedelta
    jitter: Callable[[float, float], float] = random.uniform
    _counted: deque[float] = field(default_factory=deque[float])

    def died(self, now: float, life: Life) -> Restart | GiveUp:
        """What the slot does now. Lives that got somewhere cost nothing and are replaced at once."""
        if not life.counts:
            return Restart(after=0.0)
        self._counted.append(now)
        while self._counted[0] <= now - self.window.total_seconds():
            self._counted.popleft()
        failures = len(self._counted)
        if failures > self.limit:
            return GiveUp(restarts=failures - 1)
        if failures == 1:
            return Restart(after=0.0)
        return Restart(after=self.jitter(0.0, min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (failures - 2))))
