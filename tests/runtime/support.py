"""What the tests of the runtime have in common: workers with deadlines, and tasks that tell when something happens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from docket import Docket, Worker, shield
from docket_runtime.board import NullBoard
from docket_runtime.surroundings import Surroundings

NO_TIME = timedelta(0)
SHORT = timedelta(milliseconds=400)
"""A redelivery timeout that a test can wait for."""


def now() -> datetime:
    return datetime.now(UTC)


def soon(**delta: float) -> datetime:
    return now() + timedelta(**delta)


async def finish(worker: Worker, within: float = 10.0) -> None:
    """Everything is done; TimeoutError if it takes too long."""
    await asyncio.wait_for(worker.run_until_finished(), within)


async def until(condition: Callable[[], object], within: float = 5.0) -> None:
    """Looks at memory, never at Redis, until the condition holds."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.002)


async def work_off(docket: Docket, within: float = 10.0, **options: Any) -> None:
    """A worker of its own runs everything there is."""
    async with Worker(docket, **{"drain_timeout": NO_TIME, **options}) as worker:
        await finish(worker, within)


class Watched(NullBoard):
    """A board that remembers what phases its worker was in, and what it has counted."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.begun: list[tuple[str, bool, float]] = []
        self.done: list[tuple[str, str, bool]] = []

    def phase(self, phase: str) -> None:
        self.phases.append(phase)

    def started(self, task: str, redelivered: bool, late: float) -> None:
        self.begun.append((task, redelivered, late))

    def finished(self, task: str, outcome: str, failed: bool, seconds: float) -> None:
        self.done.append((task, outcome, failed))

    @property
    def completed(self) -> int:
        return sum(1 for _, outcome, _ in self.done if outcome == "completed")


@asynccontextmanager
async def running(docket: Docket, **options: Any) -> AsyncIterator[Worker]:
    """A worker that claims while the block does; it is not given time to drain."""
    options = {"drain_timeout": NO_TIME, "surroundings": Surroundings(board=Watched()), **options}
    board = options["surroundings"].board
    async with Worker(docket, **options) as worker:
        task = asyncio.create_task(worker.run_forever())
        try:
            await until(lambda: "working" in board.phases or task.done())
            yield worker
        finally:
            task.cancel()
            ended = (await asyncio.gather(task, return_exceptions=True))[0]
            assert isinstance(ended, asyncio.CancelledError), ended


class Gate:
    """An async task that says when it has begun, and goes on when it is told to."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.open = asyncio.Event()
        self.log: list[str] = []
        self.inside = 0
        self.most_inside = 0

    async def __call__(self, what: str = "") -> str:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.log.append(f"began {what}".strip())
        self.begun.set()
        try:
            await self.open.wait()
        finally:
            self.inside -= 1
            self.log.append(f"ended {what}".strip())
        return what

    async def has_begun(self, within: float = 5.0) -> None:
        async with asyncio.timeout(within):
            await self.begun.wait()
        self.begun.clear()


class SyncGate:
    """The same for a sync task; it does not let itself be interrupted."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.open = threading.Event()
        self.log: list[str] = []
        self.inside = 0
        self.most_inside = 0
        self._lock = threading.Lock()

    def __call__(self, what: str = "") -> str:
        with shield():
            with self._lock:
                self.inside += 1
                self.most_inside = max(self.most_inside, self.inside)
                self.log.append(f"began {what}".strip())
            self.begun.set()
            self.open.wait(10)
            with self._lock:
                self.inside -= 1
                self.log.append(f"ended {what}".strip())
        return what

    async def has_begun(self, within: float = 5.0) -> None:
        await asyncio.to_thread(self.begun.wait, within)
        assert self.begun.is_set()
        self.begun.clear()
