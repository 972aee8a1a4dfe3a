"""Whether anything happens in the service: of one at rest less has to be known, and less often."""

from __future__ import annotations

from collections.abc import Sequence

from docket_supervisor.board import Seat

CALM_AFTER = 4.0
"""Seconds without anything that has begun, ended, come or gone."""


class Stirring:
    """Told from the board, without asking Redis."""

    def __init__(self, seats: Sequence[Seat]) -> None:
        self._seats = seats
        self._seen: list[tuple[int, int]] | None = None
        self._stirred_at = 0.0

    def look(self, now: float) -> None:
        taken = [seat for seat in self._seats if seat.pid]
        seen = [(seat.pid, seat.totals.started) for seat in taken]
        if seen != self._seen or any(seat.is_busy for seat in taken):
            self._seen, self._stirred_at = seen, now

    def lately(self, now: float) -> bool:
        return now - self._stirred_at < CALM_AFTER

    def since(self, instant: float) -> bool:
        """Something has been seen to happen since then."""
        return self._stirred_at >= instant
