"""What every measure is given: the server, the contestants, and how much there is to do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.contestants import Contestant
from tests.benchmarks.server import Server


@dataclass(frozen=True)
class Amounts:
    """How much of everything; a quick run is for seeing that it works, not for its figures."""

    repetitions: int = 3
    tasks: int = 20_000
    added_singly: int = 2_000
    trickled: int = 200
    due_at_once: int = 500
    due_spread: int = 200
    idle_seconds: float = 10.0
    kills: int = 12


QUICK = Amounts(
    repetitions=1, tasks=3_000, added_singly=500, trickled=50, due_spread=100, idle_seconds=3.0, kills=3
)


@dataclass(frozen=True)
class Bench:
    server: Server
    folder: Path
    amounts: Amounts
    ours: Contestant
    floor: Contestant
    pydocket: Contestant | None

    @property
    def all(self) -> list[Contestant]:
        return [each for each in (self.ours, self.pydocket, self.floor) if each is not None]

    @property
    def rivals(self) -> list[Contestant]:
        """Those that have features: the floor has none."""
        return self.all[:-1]

    def turns(self, contestants: list[Contestant]) -> Iterator[Contestant]:
        """Each once per repetition, one after the other, so that what the machine does meanwhile hits all alike."""
        for _ in range(self.amounts.repetitions):
            yield from contestants

    @contextmanager
    def clean(self) -> Iterator[Path]:
        """An empty Redis, and a folder for the marks."""
        self.server.empty()
        marks = self.folder / "marks"
        marks.mkdir()
        try:
            yield marks
        finally:
            shutil.rmtree(marks)
