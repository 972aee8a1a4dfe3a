"""When this worker must look at the future again: the next due time, on the local clock."""

from __future__ import annotations

import random

from docket import clock

_AFTER_THE_TIMEKEEPER = (0.02, 0.06)
"""Seconds by which the others come later than the timekeeper: enough for it to have promoted, not enough to be felt."""

_ROUND_TRIP = 0.002
"""Seconds that a reply takes, if nothing keeps it or whoever asked."""

_NEVER_BEFORE = 0.0001
"""Seconds: the two clocks are compared by a round trip, and coming before the moment would be one for nothing."""


class Schedule:
    """Redis's clock decides what is due; this translates its moments to our monotonic clock."""

    def __init__(self, latest: float) -> None:
        self._latest = latest
        self._offset: float | None = None
        self._due_us: int | None = None
        self._lag = 0.0
        self._heard_us: int | None = None

    def sent(self) -> None:
        """An exchange is under way: what is heard from now on may be news to its reply."""
        self._heard_us = None

    def learn(self, now_us: int, due_us: int | None, timekeeper: bool, asked_at: float | None = None) -> None:
        """From the reply to an exchange that was sent at `asked_at`; what was heard since then holds beside it.

        The reply may have lain there while the loop was busy. Too early costs a round trip, and is put right by it; too
        late stays too late.
        """
        heard_at = clock.monotonic()
        if asked_at is not None:
            heard_at = min(heard_at, asked_at + _ROUND_TRIP)
        self._offset = heard_at - now_us / 1e6
        if due_us != self._due_us or timekeeper:
            self._lag = 0.0 if timekeeper else min(random.uniform(*_AFTER_THE_TIMEKEEPER), self._latest)
        self._due_us = due_us
        if self._heard_us is not None:
            self.hear(self._heard_us)

    def hear(self, due_us: int) -> None:
        """Somebody scheduled something earlier than all that was known, or a worker died and may have known of more."""
        if self._heard_us is None or due_us < self._heard_us:
            self._heard_us = due_us
        if self._due_us is None or due_us < self._due_us:
            self._due_us, self._lag = due_us, 0.0

    @property
    def instant(self) -> float | None:
        """The monotonic instant of the next look; None if nothing is scheduled."""
        if self._due_us is None:
            return None
        if self._offset is None:
            return clock.monotonic()
        return self._due_us / 1e6 + self._offset + self._lag + _NEVER_BEFORE

    @property
    def is_due(self) -> bool:
        instant = self.instant
        return instant is not None and instant <= clock.monotonic()
