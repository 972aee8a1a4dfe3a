"""How the service stands, in one line for people: what `systemctl status` shows, and the log after USR1."""

from __future__ import annotations

from collections.abc import Callable

from docket import clock
from docket_supervisor.bulletin import Bulletin
from docket_supervisor.crew import Crew

FRESH = 0.5
"""Seconds for which figures count as those of now."""
PATIENCE = 0.5
"""Seconds after which old figures are better than none."""


def standing(crew: Crew, bulletin: Bulletin) -> str:
    return f"{crew.standing}, {_waiting(bulletin)}"


def figures_of_now(bulletin: Bulletin, measure: Callable[[], None]) -> Callable[[], str | None]:
    """Has them measured, and says `""` once they are; or when that takes too long, or cannot be. None: not yet."""
    asked_at = clock.monotonic()

    def are_there() -> str | None:
        queue, now = bulletin.queue, clock.monotonic()
        fresh = queue is not None and queue.at > asked_at - FRESH
        return "" if fresh or bulletin.reachable is not True or now > asked_at + PATIENCE else None

    if are_there() is None:
        measure()
    return are_there


def _waiting(bulletin: Bulletin) -> str:
    if bulletin.reachable is False:
        return "Redis is away"
    queue = bulletin.queue
    if queue is None:
        return "nothing known of the queue yet"
    late = f" (oldest for {queue.latency:.1f}s)" if queue.due else ""
    return f"{queue.due} due{late}, {queue.scheduled} scheduled"
