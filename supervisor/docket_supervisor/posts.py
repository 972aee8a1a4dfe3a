"""What the supervisor knows about one seat on the board: who sits there, and what for."""

from __future__ import annotations

import math
from enum import Enum, auto

from docket_supervisor.board import Seat
from docket_supervisor.hiring import Hiring
from docket_supervisor.restarts import Restarts


class Role(Enum):
    """What the worker in a seat is for. Seats are not slots: a slot is handed on from one seat to another."""

    FREE = auto()
    """Nothing; the seat is in the pool."""
    WORKER = auto()
    """It stands for a slot."""
    RELIEF = auto()
    """It is to take over a slot for which another worker stands still."""
    RETIRING = auto()
    """It stands for no slot any more: it drains, and is not replaced."""
    QUARANTINE = auto()


class Sitting(Enum):
    VACANT = auto()
    HIRING = auto()
    """Asked for; the pid is not known yet."""
    BOOTING = auto()
    READY = auto()
    RESTING = auto()
    """Waiting for the end of a backoff."""
    GIVEN_UP = auto()


class Post:
    """The board behind it says what its worker is doing."""

    def __init__(self, number: int, seat: Seat, restarts: Restarts, role: Role, slot: int) -> None:
        self.number = number
        self.seat = seat
        self.restarts = restarts
        self.role = role
        self.slot = slot
        """For a worker, the slot that it stands for, is to stand for, or stood for."""
        self.source: Hiring | None = None
        """Where its worker comes from."""
        self.generation = 0
        self.sitting = Sitting.VACANT
        self.pid = 0
        self.forked_at = 0.0
        self.rest_until = math.inf
        self.kill_at = math.inf
        """When one that retires has been patient with its executions for long enough."""
        self.killed = False
        """By us: what it held is no crash of anybody."""

    @property
    def quarantine(self) -> bool:
        return self.role is Role.QUARANTINE

    @property
    def title(self) -> str:
        return f"quarantine {self.pid}" if self.quarantine else f"worker [{self.slot}] {self.pid}"
