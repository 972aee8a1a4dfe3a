"""Counters for each task in shared memory: every increment is a plain store, and outlives the process that made it.

Why not the files of the Prometheus client's multiprocess mode: they survive a SIGKILL as well, but a run of a task
costs four increments there, about 4 µs under a lock, of the 15 that a worker has for it. Here it is 0.4 µs; the client
does the rest, from the labels to the text.

A seat has one writer at a time and its rows are never wiped: the next worker of the seat goes on counting in them.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds; of both histograms."""
OTHER = "(other)"
"""Where tasks are counted for which there is no row left: what labels can be is bounded, whatever is on the line."""
GOOD = frozenset({"completed", "perpetuate"})
"""Outcomes of a run that was not cut short; and that succeeded, unless it raised."""
ROWS = 128
COUNTERS = (
    "started",
    "redelivered",
    "completed",
    "succeeded",
    "failed",
    "retried",
    "perpetuated",
    "cancelled",
)

_WORD = 8
_NAME_BYTES = 127
_STARTED, _REDELIVERED, _COMPLETED, _SUCCEEDED, _FAILED, _RETRIED, _PERPETUATED, _CANCELLED = range(8)
_BUCKETS = len(BOUNDS) + 1
_SECONDS, _SECONDS_BUCKETS = 8, 9
_LATE, _LATE_BUCKETS = _SECONDS_BUCKETS + _BUCKETS, _SECONDS_BUCKETS + _BUCKETS + 1
_NUMBERS = _LATE_BUCKETS + _BUCKETS
_NAME_WORDS = (1 + _NAME_BYTES) // _WORD
_ROW_WORDS = _NAME_WORDS + _NUMBERS
TALLY_BYTES = -(-ROWS * _ROW_WORDS * _WORD // mmap.PAGESIZE) * mmap.PAGESIZE
"""Of one seat."""


@dataclass(frozen=True)
class Histogram:
    """`buckets`: how many fell between each bound and the one before it; the last holds what is above all bounds."""

    total: float = 0.0
    buckets: tuple[int, ...] = (0,) * _BUCKETS

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(
            self.total + other.total, tuple(a + b for a, b in zip(self.buckets, other.buckets, strict=True))
        )


@dataclass(frozen=True)
class TaskCounts:
    """One task; `counts` in the order of COUNTERS."""

    task: str
    counts: tuple[int, ...]
    seconds: Histogram = field(default_factory=Histogram)
    late: Histogram = field(default_factory=Histogram)

    def __add__(self, other: TaskCounts) -> TaskCounts:
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return TaskCounts(self.task, counts, self.seconds + other.seconds, self.late + other.late)

    def __getitem__(self, counter: str) -> int:
        return self.counts[COUNTERS.index(counter)]


class Tallies:
    """The rows of all seats, in shared memory: TALLY_BYTES for each."""

    def __init__(self, memory: memoryview) -> None:
        self._seats = [memory[at : at + TALLY_BYTES] for at in range(0, len(memory), TALLY_BYTES)]

    def writer(self, seat: int) -> Tally:
        return Tally(self._seats[seat])

    def rows(self) -> list[TaskCounts]:
        """All seats taken together, one row for each task, by name."""
        return summed(row for seat in self._seats for row in _rows(seat))


class Tally:
    """The writer of one seat. Not for two threads: the worker counts on its event loop only."""

    def __init__(self, memory: memoryview | None = None) -> None:
        """Without `memory` in its own, for a worker that nobody supervises."""
        self._memory = memoryview(bytearray(TALLY_BYTES)) if memory is None else memory
        self._words = self._memory.cast("q")
        self._floats = self._memory.cast("d")
        self._at = {name: number * _ROW_WORDS + _NAME_WORDS for number, name in _names(self._memory)}
        # The first row is kept for those that find none.
        self._next = max((number for number, _ in _names(self._memory)), default=0) + 1

    def started(self, task: str, redelivered: bool, late: float) -> None:
        """A body is about to run, `late` seconds after it was due."""
        at = self._at.get(task)
        if at is None:
            at = self._row_of(task)
        words = self._words
        words[at] += 1
        if redelivered:
            words[at + _REDELIVERED] += 1
        self._floats[at + _LATE] += late
        words[at + _LATE_BUCKETS + bisect_left(BOUNDS, late)] += 1

    def finished(self, task: str, outcome: str, failed: bool, seconds: float) -> None:
        """It ended, with that verb; `failed`: it raised, whether or not it will be tried again."""
        at = self._at.get(task)
        if at is None:
            at = self._row_of(task)
        words = self._words
        words[at + _COMPLETED] += 1
        if failed:
            words[at + _FAILED] += 1
        elif outcome in GOOD:
            words[at + _SUCCEEDED] += 1
        if outcome != "completed":
            self._rarer(at, outcome)
        self._floats[at + _SECONDS] += seconds
        words[at + _SECONDS_BUCKETS + bisect_left(BOUNDS, seconds)] += 1

    def rows(self) -> list[TaskCounts]:
        return summed(_rows(self._memory))

    def _rarer(self, at: int, outcome: str) -> None:
        if outcome == "retry":
            self._words[at + _RETRIED] += 1
        elif outcome == "perpetuate":
            self._words[at + _PERPETUATED] += 1
        elif outcome == "cancelled":
            self._words[at + _CANCELLED] += 1

    def _row_of(self, task: str) -> int:
        """A name that is too long is cut; those that are alike up to there are counted together.

        Only names with a row of their own are remembered: of the others there may be any number.
        """
        name = task.encode(errors="replace")[:_NAME_BYTES].decode(errors="ignore")
        if (at := self._at.get(name)) is not None:
            return at
        if self._next == ROWS:
            return self._at.get(OTHER) or self._write_name(0, OTHER)
        self._next += 1
        return self._write_name(self._next - 1, name)

    def _write_name(self, number: int, name: str) -> int:
        raw = name.encode(errors="replace")
        start = number * _ROW_WORDS * _WORD
        self._memory[start + 1 : start + 1 + len(raw)] = raw
        # Last: a worker killed half-way leaves a row that is free.
        self._memory[start] = len(raw)
        at = self._at[name] = number * _ROW_WORDS + _NAME_WORDS
        return at


def summed(rows: Iterable[TaskCounts]) -> list[TaskCounts]:
    """One row for each task, by name."""
    found: dict[str, TaskCounts] = {}
    for row in rows:
        found[row.task] = found[row.task] + row if row.task in found else row
    return [found[task] for task in sorted(found)]


def _names(memory: memoryview) -> Iterator[tuple[int, str]]:
    """Rows are filled in order, but for the first. No further: to read untouched shared memory is to allocate it."""
    for number in range(ROWS):
        start = number * _ROW_WORDS * _WORD
        if length := memory[start]:
            yield number, bytes(memory[start + 1 : start + 1 + length]).decode(errors="replace")
        elif number:
            return


def _rows(memory: memoryview) -> Iterator[TaskCounts]:
    words, floats = memory.cast("q"), memory.cast("d")
    for number, name in _names(memory):
        at = number * _ROW_WORDS + _NAME_WORDS
        yield TaskCounts(
            name,
            tuple(words[at + each] for each in range(len(COUNTERS))),
            _histogram(words, floats, at + _SECONDS),
            _histogram(words, floats, at + _LATE),
        )


def _histogram(words: memoryview[int], floats: memoryview[float], at: int) -> Histogram:
    buckets: Sequence[int] = words[at + 1 : at + 1 + _BUCKETS].tolist()
    return Histogram(floats[at], tuple(buckets))
