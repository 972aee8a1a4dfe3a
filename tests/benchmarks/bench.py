"""What every measure is given: the server, the contestants, and how much there is to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import redis

from tests.benchmarks.contestants import Broken, Contestant
from tests.benchmarks.results import Row
from tests.benchmarks.server import Server


@dataclass(frozen=True)
class Amounts:
    """How much of everything; a quick run is for seeing that it works, not for its figures."""

    repetitions: int = 3
    repetitions_of_peers: int = 2
    """There are eight of them, and each takes longer than ours: the whole is to take less than 20 minutes."""
    tasks: int = 20_000
    added_singly: int = 2_000
    trickled: int = 200
    due_at_once: int = 500
    due_spread: int = 200
    idle_seconds: float = 10.0
    idle_seconds_of_peers: float = 6.0
    kills: int = 12


QUICK = Amounts(
    repetitions=1,
    repetitions_of_peers=1,
    tasks=3_000,
    added_singly=500,
    trickled=50,
    due_spread=100,
    idle_seconds=3.0,
    idle_seconds_of_peers=3.0,
    kills=3,
)


@dataclass(frozen=True)
class Bench:
    server: Server
    folder: Path
    amounts: Amounts
    ours: Contestant
    floor: Contestant
    pydocket: Contestant | None
    peers: Sequence[Contestant] = ()
    unprepared: dict[str, str] = field(default_factory=dict[str, str])
    """The peers that could not be installed, and why."""

    @property
    def all(self) -> list[Contestant]:
        return [*self.rivals, self.floor]

    @property
    def rivals(self) -> list[Contestant]:
        """Those that have features: the floor has none."""
        return [*self.relatives, *self.peers]

    @property
    def relatives(self) -> list[Contestant]:
        """Ours and the one whose tasks and workers are written alike."""
        return [self.ours, *([self.pydocket] if self.pydocket is not None else [])]

    def count(self, contestant: Contestant, of: int | None = None) -> int:
        """How many tasks it is given."""
        return max(100, round((self.amounts.tasks if of is None else of) * contestant.share))

    def turns(self, contestants: list[Contestant]) -> Iterator[Contestant]:
        """Each once per repetition, one after the other, so that what the machine does meanwhile hits all alike."""
        for _ in range(self.amounts.repetitions):
            yield from contestants

    def repeat(
        self,
        contestants: list[Contestant],
        rows: Sequence[Row],
        once: Callable[[Contestant], None],
        needs: Iterable[str] = (),
        repetitions: int | None = None,
    ) -> None:
        """`once` for each contestant in turn. Who lacks something is left out, and the rows say why; who is broken
        is broken in all `rows`, and keeps nobody else from being measured."""
        out: set[str] = set()
        for contestant in contestants:
            lacking = [contestant.cannot[each] for each in needs if each in contestant.cannot]
            for row in rows if lacking else ():
                row.absent[contestant.name] = lacking[0]
                out.add(contestant.name)
        for row in rows:
            row.faults.update(self.unprepared)
        for number in range(repetitions or self.amounts.repetitions):
            for contestant in contestants:
                seldom = contestant in self.peers and number >= self.amounts.repetitions_of_peers
                if contestant.name in out or seldom:
                    continue
                try:
                    once(contestant)
                except (Broken, OSError, ValueError, LookupError, psutil.Error, redis.RedisError) as error:
                    out.add(contestant.name)
                    for row in rows:
                        row.fail(contestant.name, str(error) or repr(error))

    @contextmanager
    def clean(self) -> Iterator[Path]:
        """An empty Redis, and a folder for the marks."""
        self.server.empty()
        marks = self.folder / "marks"
        marks.mkdir()
        try:
            yield marks
        finally:
            shutil.rmtree(marks, ignore_errors=True)
