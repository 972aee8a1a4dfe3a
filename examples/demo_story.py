"""What the tasks of the demo wrote down, read while they run: the evidence for everything that the demo claims."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Run:
    """One start of one task, as the task itself wrote it down."""

    pid: int
    attempt: int
    started: float
    started_wall: float
    ended: float | None = None


@dataclass
class Story:
    """What was added, and what the tasks wrote about it."""

    folder: Path
    counts: Mapping[str, int]
    """How many of each kind there are to be."""
    kinds: dict[str, str] = field(default_factory=dict[str, str])
    due: dict[str, float] = field(default_factory=dict[str, float])
    runs: dict[str, list[Run]] = field(default_factory=dict[str, list[Run]])
    done: Counter[str] = field(default_factory=Counter[str])
    killed: int | None = None
    killed_at: float = 0.0
    _read: dict[Path, int] = field(default_factory=dict[Path, int])

    @property
    def finished(self) -> bool:
        return self.done.total() == self.total

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def read(self) -> None:
        """Takes in what has been written since the last time."""
        for path in self.folder.glob("*.jsonl"):
            with path.open("rb") as lines:
                lines.seek(self._read.get(path, 0))
                text = lines.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            for line in whole.splitlines():
                self._take(json.loads(line))

    def _take(self, line: dict[str, str]) -> None:
        key, pid, at = line["key"], int(line["pid"]), float(line["at"])
        runs = self.runs.setdefault(key, [])
        if line["event"] == "start":
            runs.append(Run(pid, int(line["attempt"]), at, float(line["wall"])))
            return
        if not any(run.ended for run in runs):
            self.done[self.kinds[key]] += 1
        next(run for run in reversed(runs) if run.pid == pid).ended = at

    def in_flight(self, pid: int) -> list[str]:
        return [key for key, runs in self.runs.items() if runs[-1].pid == pid and runs[-1].ended is None]

    def again(self) -> list[str]:
        """Tasks that have started more than once."""
        return [key for key, runs in self.runs.items() if len(runs) > 1]

    def explained(self, key: str) -> bool:
        """It ran twice because the first run was in the worker that was killed, and not long before."""
        runs = sorted(self.runs[key], key=lambda run: run.started)
        first, second = runs[0], runs[1]
        in_doubt = first.ended is None or self.killed_at - first.ended < 1.0
        return len(runs) == 2 and first.pid == self.killed and second.started > self.killed_at and in_doubt

    def recovery(self) -> float | None:
        """Seconds from the kill until the first of the interrupted tasks was running again."""
        again = [self.runs[key][1].started for key in self.again() if self.explained(key)]
        return min(again) - self.killed_at if again else None

    def early(self) -> list[str]:
        """Tasks that began before they were due. The clocks of Redis and of this process may differ by a little."""
        began = {key: min(run.started_wall for run in runs) for key, runs in self.runs.items()}
        return [key for key, due in self.due.items() if began.get(key, due) < due - 0.005]
