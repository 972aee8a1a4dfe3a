"""What supervisor, template, steward and workers say to each other: one JSON line each."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class ForkWorker:
    """Supervisor to template: fork the worker of this seat on the board, which stands for this slot."""

    seat: int
    slot: int
    quarantine: bool


@dataclass(frozen=True)
class Forked:
    """Template to supervisor: it runs, as your child. `pid` 0: it could not be forked, for want of memory or pids."""

    seat: int
    pid: int


@dataclass(frozen=True)
class Imported:
    """Template to supervisor: workers can be forked."""

    collections: int


@dataclass(frozen=True)
class ImportFailed:
    """Template or worker to supervisor; followed by exit status 3. Or 2, when they were imported, and are refused for
    what that has left in the process."""

    explanation: str
    refused: bool = False


@dataclass(frozen=True)
class PhaseChanged:
    """Worker to supervisor: look at the board."""

    seat: int


@dataclass(frozen=True)
class HandOver:
    """Supervisor to steward: give back what this worker held. Repeated until `HandedOver` answers it."""

    order: int
    worker_id: str
    cause: str
    started: list[str]
    late: list[Late] = field(default_factory=list["Late"])
    """To be settled by their time limits first."""


Late = tuple[str, str, int, float]
"""Entry, verb, operand and the seconds that were allowed, as in `board.Limit`."""


@dataclass(frozen=True)
class HandedOver:
    order: int
    worker_id: str
    returned: int
    suspects: int
    dead: list[str]


@dataclass(frozen=True)
class Suspects:
    """Steward to supervisor: so many executions wait to be run alone."""

    waiting: int


@dataclass(frozen=True)
class CountSuspects:
    """Supervisor to steward: a quarantine process has left; say how many still wait."""


@dataclass(frozen=True)
class Measure:
    """Supervisor to steward: somebody wants to know how much there is to do at this moment."""


@dataclass(frozen=True)
class RedisSeen:
    """Steward to supervisor, at every change and once at the start."""

    reachable: bool
    reason: str = ""


@dataclass(frozen=True)
class Leave:
    """Supervisor to steward: the last worker has left."""


Message = (
    ForkWorker
    | Forked
    | Imported
    | ImportFailed
    | PhaseChanged
    | HandOver
    | HandedOver
    | Suspects
    | CountSuspects
    | Measure
    | RedisSeen
    | Leave
)

KINDS: dict[str, type[Message]] = {
    kind.__name__: kind
    for kind in (
        ForkWorker,
        Forked,
        Imported,
        ImportFailed,
        PhaseChanged,
        HandOver,
        HandedOver,
        Suspects,
        CountSuspects,
        Measure,
        RedisSeen,
        Leave,
    )
}


def encode(message: Message) -> bytes:
    return json.dumps([type(message).__name__, asdict(message)]).encode() + b"\n"


def decode(line: bytes) -> Message:
    kind, fields = json.loads(line)
    return KINDS[kind](**fields)
