"""What a worker writes about itself, for whoever keeps watch over it.

The runtime does not know who reads: under a supervisor it is shared memory, alone it is nothing at all.
"""

from __future__ import annotations

from typing import Protocol


class Board(Protocol):
    """One writer, no locks. What is called for every execution must stay cheap."""

    def enlisted(self, worker_id: str) -> None:
        """The lease of this id is to be renewed from now on; `""` when the worker has left."""
        ...

    def phase(self, phase: str) -> None:
        """`starting`, `working`, `quiet`, `draining` or `left`."""
        ...

    def tick(self, lag: float = 0.0, pause: float = 0.25) -> None:
        """The event loop has turned, and will do so again within `pause` seconds. `lag`: by how many seconds this came
        too late."""
        ...

    def began(self, place: int, entry: str, key: str, task: str, thread: bool) -> None:
        """The body of an execution is about to run in this place (0 ≤ place < concurrency)."""
        ...

    def limited(self, place: int, deadline: float, allowed: float, verb: str, operand: int) -> None:
        """The body in this place declared a time limit of `allowed` seconds, which ends at this monotonic instant. With
        what it is to be settled if its process has to be killed for that: `failed`, `retry` (`operand`: microseconds
        from then), or `perpetuate` (`operand`: microseconds since 1970). Called again when the deadline moves."""
        ...

    def ended(self, place: int) -> None: ...

    def abandoned(self, threads: int) -> None:
        """So many threads run on although what they run was told to end."""
        ...

    def started(self, task: str, redelivered: bool, late: float) -> None:
        """A run of this task begins, `late` seconds after it was due. Called for each before anything of the task's
        own is run, so that what a run does to its process cannot keep it from being counted."""
        ...

    def finished(self, task: str, outcome: str, failed: bool, seconds: float) -> None:
        """It has ended, once for each `started`, before the outcome is sent to Redis. `outcome` is the verb of
        `Outcome`; `failed`: it raised, also when it is to be tried again."""
        ...

    @property
    def drain_at(self) -> float | None:
        """The monotonic instant by which a drain must be over, if somebody has set one."""
        ...

    @property
    def quiet(self) -> bool:
        """Somebody wants nothing to be claimed for the time being; asked every second, and whenever CONT arrives."""
        ...

    @property
    def standing_down(self) -> bool:
        """Nothing is to be claimed or begun: what had not begun may have been given to others."""
        ...

    @property
    def stacks_asked_at(self) -> float:
        """The monotonic instant at which somebody last asked for the stacks of this process; 0 if nobody ever did."""
        ...


class NullBoard:
    """Nobody watches."""

    def enlisted(self, worker_id: str) -> None: ...
    def phase(self, phase: str) -> None: ...
    def tick(self, lag: float = 0.0, pause: float = 0.25) -> None: ...
    def began(self, place: int, entry: str, key: str, task: str, thread: bool) -> None: ...
    def limited(self, place: int, deadline: float, allowed: float, verb: str, operand: int) -> None: ...
    def ended(self, place: int) -> None: ...
    def started(self, task: str, redelivered: bool, late: float) -> None: ...
    def finished(self, task: str, outcome: str, failed: bool, seconds: float) -> None: ...
    def abandoned(self, threads: int) -> None: ...

    @property
    def drain_at(self) -> float | None:
        return None

    @property
    def quiet(self) -> bool:
        return False

    @property
    def standing_down(self) -> bool:
        return False

    @property
    def stacks_asked_at(self) -> float:
        return 0.0
