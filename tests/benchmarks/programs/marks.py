"""What tasks write down, cheap enough not to be measured itself: when each was started and how often.

One file for each process, mapped into its memory, so that two processes never write to the same place and whoever
reads needs neither the broker nor the process.
"""

from __future__ import annotations

import bisect
import math
import mmap
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER, COUNT = "DOCKET_BENCH_MARKS", "DOCKET_BENCH_COUNT"
"""The environment variables that say where, and how many tasks there are. Their numbers count from 0."""


class Marks:
    """This process's file; made at the first mark, which in a supervised worker is after the fork."""

    def __init__(self) -> None:
        self._pid = 0
        self._opening = threading.Lock()

    def mark(self, number: int) -> None:
        if self._pid != os.getpid():
            with self._opening:
                if self._pid != os.getpid():
                    self._open()
        self._starts[number] = time.monotonic()
        self._counts[number] += 1

    def _open(self) -> None:
        count = int(os.environ[COUNT])
        with open(os.path.join(os.environ[FOLDER], f"{os.getpid()}.marks"), "w+b") as file:
            file.truncate(9 * count)
            memory = memoryview(mmap.mmap(file.fileno(), 9 * count))
        self._starts, self._counts = memory[: 8 * count].cast("d"), memory[8 * count :]
        self._pid = os.getpid()  # last: other threads look at it without the lock


@dataclass(frozen=True)
class Marked:
    """All files together. `starts` is 0.0 for what has not been started; `joined` are the processes' first ones."""

    counts: Sequence[int]
    starts: Sequence[float]
    joined: Sequence[float] = ()

    @property
    def rate(self) -> float:
        """Tasks a second while all processes are at work: one that comes up a little later is waited for, unless most
        of the work had been done by then."""
        starts = sorted(start for start in self.starts if start)
        whole = starts[bisect.bisect_left(starts, max(self.joined, default=0.0)) :]
        seen = whole if 2 * len(whole) >= len(starts) else starts
        return (len(seen) - 1) / (seen[-1] - seen[0])

    def fault(self) -> str | None:
        """What keeps this from being "each exactly once"."""
        lost = sum(1 for count in self.counts if not count)
        doubled = sum(1 for count in self.counts if count > 1)
        return f"{lost} tasks were lost, {doubled} ran more than once" if lost or doubled else None


def ran(folder: Path, count: int) -> int:
    """How many have been started. It is asked while they run, and what it costs is taken from them: most from the
    fastest, who are given most."""
    seen = 0
    for _, counted in _files(folder, count):
        seen |= int.from_bytes(counted)
    return count - seen.to_bytes(count).count(0)


def read(folder: Path, count: int) -> Marked:
    counts, starts, joined = [0] * count, [0.0] * count, list[float]()
    for started, counted in _files(folder, count):
        for number, more in enumerate(counted):
            if more:
                counts[number] += more
        first = math.inf
        for number, start in enumerate(started.cast("d")):
            if start:
                starts[number] = start
                first = min(first, start)
        if first < math.inf:
            joined.append(first)
    return Marked(counts, starts, joined)


def _files(folder: Path, count: int) -> Iterator[tuple[memoryview, memoryview]]:
    """Of each process: when it started what, as bytes, and how often."""
    for path in folder.glob("*.marks"):
        content = memoryview(path.read_bytes())
        if len(content) == 9 * count:  # else it was made, but not given its size yet
            yield content[: 8 * count], content[8 * count :]
