"""What the supervisor knows about one seat on the board: who sits there, and what for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum, auto

from docket.stacks import Frame
from docket_supervisor.board import Seat
from docket_supervisor.estate import Occupant
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
    SPARE = auto()
    """It stands for no slot yet, and does nothing, so that it can take over at once."""


class Sitting(Enum):
    VACANT = auto()
    HIRING = auto()
    """Asked for; the pid is not known yet."""
    BOOTING = auto()
    READY = auto()
    RESTING = auto()
    """Waiting for the end of a backoff."""
    GIVEN_UP = auto()


@dataclass(frozen=True)
class Sentence:
    """Why we end a worker. `guilty`: the entries of the executions that it is to be blamed on, if any."""

    label: str
    why: str
    guilty: tuple[str, ...] = ()


@dataclass
class Watch:
    """What has been seen of one worker, and done about it."""

    taken: int = 0
    """Steps of the ladder, since the loop last turned."""
    stopped: bool = False
    tainted: bool = False
    place: int | None = None
    frame: Frame | None = None
    """Where the loop was seen blocked, and by which place."""
    dump: str = ""
    slow: dict[str, int] = field(default_factory=dict[str, int])
    """How often each execution was reported as slow, by entry."""
    private_bytes: int = 0
    sampled_at: float = 0.0
    sampled_started: int = 0
    """How many runs it had begun by then."""
    condemned_at: float = 0.0
    unasked: tuple[float, set[str]] | None = None
    """Since when it has been leaving though nobody here told it to, and the entries of what it ran then."""
    left_at: float | None = None
    """Since when it has left, though its process is there still."""


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
        self.sentence: Sentence | None = None
        """Given by us; what it does not name as guilty is no crash of anybody."""
        self.killed = False
        """By us."""
        self.watch = Watch()

    def settle_in(self, former: Occupant, source: Hiring) -> None:
        """As it was for an earlier supervisor, which this one has taken the place of; rests are cut short."""
        self.role, self.slot, self.generation = Role[former.role], former.slot, former.generation
        self.pid, self.forked_at = former.pid, former.forked_at
        self.kill_at = math.inf if former.kill_at is None else former.kill_at
        self.sitting = Sitting[former.sitting]
        self.source = None if self.role is Role.FREE else source
        if not self.pid and self.sitting is not Sitting.GIVEN_UP:
            self.sitting = Sitting.VACANT

    @property
    def quarantine(self) -> bool:
        return self.role is Role.QUARANTINE

    @property
    def title(self) -> str:
        if self.role in (Role.QUARANTINE, Role.SPARE):
            return f"{self.role.name.lower()} {self.pid}"
        if self.slot < 0:
            return f"spare {self.pid}"  # one that retires unused
        return f"worker [{self.slot}] {self.pid}"
