"""Tells for how long somebody has been silent, not counting the time in which we ourselves could not have heard."""

from __future__ import annotations

_DEAF = 3.0
"""Seconds between two questions after which it was we who were stopped, or the whole machine."""


class Silence:
    """Asked again and again: the supervisor's loop turns every second and a half at least."""

    def __init__(self) -> None:
        self._asked_at = self._since = 0.0

    def lasts(self, now: float, heard_at: float) -> float:
        if now - self._asked_at > _DEAF:
            self._since = now
        self._asked_at = now
        return now - max(heard_at, self._since)
