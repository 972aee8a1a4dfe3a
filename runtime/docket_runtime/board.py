"""What a worker writes about itself, for whoever keeps watch over it.

The runtime does not know who reads: under a supervisor it is shared memory, alone it is nothing at all.
"""

from __future__ import annotations

from typing import Protocol


class Board(Protocol):
    """One writer, no locks. `began`, `ended` are called for every execution and must stay cheap."""

    def enlisted(self, worker_id: str) -> None:
        """The lease of this id is to be renewed from now on; `""` when the worker has left."""
        ...

    def phase(self, phase: str) -> None:
        """`starting`, `working`, `quiet`, `draining` or `left`."""
        ...

    def tick(self) -> None:
        """The event loop has turned; about once a second."""
        ...

    def began(self, place: int, entry: str, key: str, task: str, thread: bool) -> None:
        """The body of an execution is about to run in this place (0 ≤ place < concurrency)."""
        ...

    def ended(self, place: int) -> None: ...

    def counted(self, started: int, completed: int, failed: int, redelivered: int) -> None:
        """Totals of this process so far."""
        ...

    @property
    def drain_at(self) -> float | None:
        """The monotonic instant by which a drain must be over, if somebody has set one."""
        ...

    @property
    def quiet(self) -> bool:
        """Somebody wants nothing to be claimed for the time being; asked every second, and whenever CONT arrives."""
        ...


class NullBoard:
    """Nobody watches."""

    def enlisted(self, worker_id: str) -> None: ...
    def phase(self, phase: str) -> None: ...
    def tick(self) -> None: ...
    def began(self, place: int, entry: str, key: str, task: str, thread: bool) -> None: ...
    def ended(self, place: int) -> None: ...
    def counted(self, started: int, completed: int, failed: int, redelivered: int) -> None: ...

    @property
    def drain_at(self) -> float | None:
        return None

    @property
    def quiet(self) -> bool:
        return False
