"""How many worker processes the work needs: from what waits and who is busy to a number, without a clock or a process.

Damped in four ways: a sign must hold for a while, one change is given time to show its effect, growth at most doubles,
and between "too few" and "too many" lies a wide band in which nothing changes. Growth is quick, for work waits for it;
shrinking is slow, for a process too many costs little, and one that comes and goes costs more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

TOO_LATE = 1.0
"""Seconds that the oldest due execution may wait."""
BUSY, IDLE = 0.9, 0.5
"""Shares of the places: work that waits while so many are taken needs more of them; no more than so many would be
taken if there was one process less."""
GROW_AFTER, SHRINK_AFTER = 2.0, 15.0
"""Seconds for which a sign must hold."""
SETTLING = 5.0
"""Seconds from one change to the next that adds more."""


@dataclass(frozen=True)
class Sample:
    """At one moment. `places`: executions that the workers which are ready can run at a time."""

    at: float
    size: int
    ready: int
    busy: int
    places: int
    due: int
    latency: float

    @property
    def reason(self) -> str:
        waits = f"the oldest of {self.due} due for {self.latency:.1f}s" if self.due else "nothing waits"
        return f"{waits}, {self.busy} of {self.places} places are busy"


class Scaling:
    """Looks at one sample after the other."""

    def __init__(self, fewest: int, most: int) -> None:
        self._fewest, self._most = fewest, most
        self._short_since = math.inf
        self._ample_since = math.inf
        self._changed_at = -math.inf

    def decide(self, sample: Sample) -> int:
        """How many processes there are to be from now on."""
        if sample.ready < sample.size or not sample.places:
            # What was ordered is not there yet, so nobody can say whether it is enough.
            self._short_since = self._ample_since = math.inf
            return sample.size
        self._short_since = min(self._short_since, sample.at) if _is_short(sample) else math.inf
        self._ample_since = min(self._ample_since, sample.at) if _is_ample(sample) else math.inf
        wanted = sample.size
        if sample.at - self._short_since >= GROW_AFTER and sample.at - self._changed_at >= SETTLING:
            wanted = min(self._most, sample.size + _missing(sample))
        elif sample.at - self._ample_since >= SHRINK_AFTER:
            wanted = max(self._fewest, sample.size - 1)
        if wanted != sample.size:
            self._changed_at = sample.at
            self._short_since = self._ample_since = math.inf
        return wanted


def _is_short(sample: Sample) -> bool:
    """Work waits, and would not if there were more places. What waits beside free ones has just been seen to, and was
    measured before that."""
    taken = BUSY if sample.latency < TOO_LATE else IDLE
    return sample.due > 0 and sample.busy >= taken * sample.places


def _is_ample(sample: Sample) -> bool:
    left = sample.places * (sample.size - 1) / sample.size
    return sample.due == 0 and sample.busy <= IDLE * left


def _missing(sample: Sample) -> int:
    """Processes for what waits now, one at least; twice as many as before at most."""
    each = sample.places / sample.size
    return max(1, min(sample.size, math.ceil(sample.due / each)))
