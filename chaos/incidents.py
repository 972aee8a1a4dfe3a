"""What has been done to whom, and when: what a checker may accept as an explanation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from docket import clock

ALL = 0
"""In place of a pid: every worker may have been told to leave, or has lost Redis."""

DEADLY = frozenset(
    {
        *("kill", "terminate", "freeze", "roll", "shrink"),
        *("kill the supervisor", "terminate the service", "long pause of Redis", "failover of Redis"),
        *("poison", "hang", "out of memory", "over its memory limit"),
    }
)
"""What can end a run before it is settled. A freeze, because a worker that is silent for too long loses its lease; a
failover, because the last moments of a master are not on its replica."""

GRACEFUL = frozenset(
    {
        *("terminate", "roll", "shrink", "kill the supervisor", "terminate the service"),
        "over its memory limit",
    }
)
"""Among the deadly: whoever is told to leave still settles what has ended, as long as Redis is there."""

AWAY = frozenset(
    {
        *("restart of Redis", "kill of Redis", "pause of Redis", "long pause of Redis", "Redis is full"),
        "Redis holds something foreign",
        "failover of Redis",
        *("kill the supervisor", "terminate the service", "quiet", "settled in", "blocked loop"),
    }
)
"""While it lasts nobody can work: a recovery is measured without that time."""


@dataclass(frozen=True)
class Incident:
    """`what` happened at the monotonic instant `at` to the process `pid`, or to ALL; until `until` if it lasted."""

    what: str
    pid: int
    at: float
    until: float = 0.0
    note: str = ""

    def concerns(self, pid: int) -> bool:
        return self.what in DEADLY and self.pid in (ALL, pid)

    def concerns_settling_of(self, pid: int) -> bool:
        """It may have kept the outcomes of that process from Redis for a while."""
        return self.what in AWAY and self.pid in (ALL, pid)

    @property
    def over(self) -> float:
        return max(self.at, self.until)


class Incidents:
    def __init__(self, known: Iterable[Incident] = ()) -> None:
        self._all = list(known)

    def __iter__(self) -> Iterator[Incident]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def happened(self, what: str, pid: int, note: str = "", *, until: float = 0.0) -> Incident:
        """To be called *before* it is done: what follows from it must not come earlier."""
        self._all.append(Incident(what, pid, clock.monotonic(), until, note))
        return self._all[-1]

    def is_over(self, incident: Incident, and_then: float = 0.0) -> None:
        """It lasted until now, and its consequences for some seconds more, whatever was thought before."""
        self._all[self._all.index(incident)] = replace(incident, until=clock.monotonic() + and_then)

    def save(self, path: Path) -> None:
        path.write_text("".join(json.dumps(asdict(each)) + "\n" for each in self._all))

    @classmethod
    def load(cls, path: Path) -> Incidents:
        return cls(Incident(**json.loads(line)) for line in path.read_text().splitlines())


def working_time(since: float, until: float, incidents: Iterable[Incident]) -> float:
    """Seconds between two instants in which work was possible. Negative if `until` is the earlier one."""
    away = sorted((max(each.at, since), min(each.over, until)) for each in incidents if each.what in AWAY)
    seconds, reached = until - since, since
    for began, ended in away:
        began = max(began, reached)
        if ended > began:
            seconds -= ended - began
            reached = ended
    return seconds
