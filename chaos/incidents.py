"""What has been done to whom, and when: what a checker may accept as an explanation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from docket import clock

ALL = 0
"""In place of a pid: every worker may have been told to leave."""

DEADLY = frozenset({"kill", "terminate", "freeze", "roll", "shrink"})
"""What can end a run before it is settled. A freeze, because a worker that is silent for too long loses its lease."""


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


class Incidents:
    def __init__(self) -> None:
        self._all: list[Incident] = []

    def __iter__(self) -> Iterator[Incident]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def happened(self, what: str, pid: int, note: str = "", *, until: float = 0.0) -> None:
        """To be called *before* it is done: what follows from it must not come earlier."""
        self._all.append(Incident(what, pid, clock.monotonic(), until, note))

    def save(self, path: Path) -> None:
        path.write_text("".join(json.dumps(asdict(each)) + "\n" for each in self._all))

    @classmethod
    def load(cls, path: Path) -> Incidents:
        found = cls()
        found._all = [Incident(**json.loads(line)) for line in path.read_text().splitlines()]
        return found
