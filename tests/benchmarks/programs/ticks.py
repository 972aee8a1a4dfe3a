"""Thousands of automatic perpetual tasks, each a function with a name and so with a key of its own.

Each run writes down how late it began, into a file of its process mapped into memory: a count, and then so many floats.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from docket import CurrentExecution, Execution, Perpetual

FOLDER, TASKS, EVERY = "DOCKET_BENCH_MARKS", "DOCKET_BENCH_COUNT", "DOCKET_BENCH_EVERY"
ROOM = 2_000_000
"""Runs that one process can write down."""


class Lateness:
    """This process's file; made at the first run, which in a supervised worker is after the fork."""

    def __init__(self) -> None:
        self._pid = 0

    def note(self, late: float) -> None:
        if self._pid != os.getpid():
            self._open()
        self._count += 1
        self._floats[self._count] = late
        self._floats[0] = self._count

    def _open(self) -> None:
        with open(os.path.join(os.environ[FOLDER], f"{os.getpid()}.late"), "w+b") as file:
            file.truncate(8 * (ROOM + 1))
            self._floats = memoryview(mmap.mmap(file.fileno(), 8 * (ROOM + 1))).cast("d")
        self._count = 0
        self._pid = os.getpid()


lateness = Lateness()


def _tick(number: int, every: timedelta) -> Callable[..., Any]:
    async def tick(
        perpetual: Perpetual = Perpetual(every=every, automatic=True),
        execution: Execution = CurrentExecution(),
    ) -> None:
        lateness.note(time.time() - execution.when.timestamp())

    tick.__name__ = tick.__qualname__ = f"tick{number:05}"
    return tick


def _every() -> timedelta:
    return timedelta(seconds=float(os.environ[EVERY]))


tasks = [_tick(number, _every()) for number in range(int(os.environ[TASKS]))]
