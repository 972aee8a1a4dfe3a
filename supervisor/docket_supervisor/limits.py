"""When a worker has served for long enough: by what it has run, by its memory, by its age. Pure; nobody is asked."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from docket.durations import describe

SAMPLE_EVERY = 5.0
"""Seconds between two looks at the memory of the workers."""
SAMPLES = 2
"""In a row above the limit: what one execution needs for a moment and gives back is no reason to end a worker."""

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_LEAST_MEMORY = 1 << 20


_LARGEST = 2.0**63


def parse_size(text: str) -> int:
    """`160M` in bytes; K, M and G are binary. ValueError if it is no size."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?)\s*", text, re.IGNORECASE)
    if match is None:
        raise ValueError(f"expected a size such as 160M or 1G, got {text!r}")
    size = float(match[1]) * _UNITS[match[2].upper()]
    if size > _LARGEST:
        raise ValueError(f"expected a size that a machine can have, got {text!r:.100}")
    return int(size)


def describe_size(size: int) -> str:
    """As somebody would have written it: `160M`."""
    unit = next(unit for unit in "GMK" if size >= _UNITS[unit]) if size >= _UNITS["K"] else ""
    return f"{round(size / _UNITS[unit], 1):g}{unit}"


@dataclass(frozen=True)
class Limits:
    """None: without limit. `jitter` is the fraction of a limit by which it may be lower, for each worker anew, so that
    those who began together do not end together.
    """

    max_tasks: int | None = None
    max_memory: int | None = None
    max_age: timedelta | None = None
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if self.max_tasks is not None and self.max_tasks < 1:
            raise ValueError(f"expected --max-tasks to be at least 1, got {self.max_tasks}")
        if self.max_memory is not None and self.max_memory < _LEAST_MEMORY:
            raise ValueError(f"expected --max-memory to be at least 1M, got {describe_size(self.max_memory)}")
        if self.max_age is not None and self.max_age <= timedelta(0):
            raise ValueError(f"expected --max-age to be above zero, got {describe(self.max_age)}")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"expected --recycle-jitter to be at least 0 and below 1, got {self.jitter:g}")

    @property
    def any(self) -> bool:
        return (self.max_tasks, self.max_memory, self.max_age) != (None, None, None)


class Lifespan:
    """The limits of one worker, drawn when it is first seen, and how it stands to them."""

    def __init__(self, limits: Limits, draw: Callable[[float, float], float] = random.uniform) -> None:
        def lower(limit: float | None) -> float:
            return math.inf if limit is None else limit * (1 - draw(0.0, limits.jitter))

        self.tasks = math.ceil(lower(limits.max_tasks)) if limits.max_tasks else math.inf
        self.memory = lower(limits.max_memory)
        self.age = lower(limits.max_age.total_seconds() if limits.max_age else None)
        self.over = ""
        """Which limit it has reached, with the figures; `""` while it has reached none. It stays so."""
        self._samples = 0

    def ran(self, tasks: int) -> None:
        """It has begun so many executions since its start."""
        if not self.over and tasks >= self.tasks:
            self.over = f"{tasks} tasks, of {self.tasks:g}"

    def aged(self, seconds: float) -> None:
        if not self.over and seconds >= self.age:
            self.over = (
                f"{describe(timedelta(seconds=round(seconds)))} old, of {describe(_rounded(self.age))}"
            )

    def measured(self, private: int) -> None:
        """A sample of the memory that it shares with nobody."""
        self._samples = self._samples + 1 if private > self.memory else 0
        if not self.over and self._samples >= SAMPLES:
            self.over = f"{describe_size(private)} of private memory, of {describe_size(int(self.memory))}"


def _rounded(seconds: float) -> timedelta:
    return timedelta(seconds=round(seconds, 1))
