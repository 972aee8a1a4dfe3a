"""How the service stands, in one line for people: what `systemctl status` shows, and the log after USR1."""

from __future__ import annotations

from docket_supervisor.bulletin import Bulletin
from docket_supervisor.crew import Crew


def standing(crew: Crew, bulletin: Bulletin) -> str:
    return f"{crew.standing}, {_waiting(bulletin)}"


def _waiting(bulletin: Bulletin) -> str:
    if bulletin.reachable is False:
        return "Redis is away"
    queue = bulletin.queue
    if queue is None:
        return "nothing known of the queue yet"
    late = f" (oldest for {queue.latency:.1f}s)" if queue.due else ""
    return f"{queue.due} due{late}, {queue.scheduled} scheduled"
