"""What a supervisor hands on to the program that takes its place in the same process: descriptors, and who is there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, cast

from docket_supervisor.anonymous import anonymous_file

VARIABLE = "DOCKET_ESTATE"
"""Names the descriptor in which an estate is written. Set for one `execve`, and taken away by who reads it."""


@dataclass(frozen=True)
class Occupant:
    """One seat, and the process that sits there; pid 0: nobody does."""

    number: int
    role: str
    slot: int
    generation: int
    sitting: str
    pid: int
    forked_at: float
    kill_at: float | None


@dataclass(frozen=True)
class Guest:
    """Who has connected to the control socket: what has been heard of him, and what he has not been handed yet."""

    descriptor: int
    heard: str
    untold: str


@dataclass(frozen=True)
class Reception:
    """The control socket: where it is, who listens, and by which device and inode its file is told from another's."""

    path: str
    listener: int
    file: tuple[int, int]
    guests: tuple[Guest, ...]


@dataclass(frozen=True)
class Estate:
    """Numbers of descriptors are good in the new program as they are."""

    layout: str
    board: int
    lifeline: tuple[int, int]
    notices: tuple[int, int]
    spool: tuple[int, ...]
    entrance: int | None
    reception: Reception | None
    phase: str
    started_at: float
    wanted: int
    by_hand: bool
    """Somebody has asked for so many, and has not left it to us again."""
    generation: int
    occupants: tuple[Occupant, ...]
    steward: dict[str, Any]
    """Its pid, its channel (0: there is none now), and the orders that it has not acknowledged."""
    template: tuple[int, int] | None
    """Its pid and its channel, if there is one that has imported."""
    dead_workers: tuple[int, ...]
    """Those whose strays are being looked for."""

    @property
    def descriptors(self) -> Iterator[int]:
        yield from (self.board, *self.lifeline, *self.notices, *self.spool)
        if self.entrance is not None:
            yield self.entrance
        if self.reception is not None:
            yield self.reception.listener
            yield from (guest.descriptor for guest in self.reception.guests)
        if channel := self.steward["channel"]:
            yield channel
        if self.template is not None:
            yield self.template[1]


def write(estate: Estate) -> int:
    """A descriptor from which `inherited` reads it. Not a variable: there may be hundreds of seats."""
    file = anonymous_file("docket estate")
    left = memoryview(json.dumps(asdict(estate)).encode())
    while left:
        left = left[os.write(file, left) :]
    return file


def keep(estate: Estate, *more: int, kept: bool) -> None:
    """Its descriptors survive an `execve`, or do not any more."""
    for descriptor in (*estate.descriptors, *more):
        os.set_inheritable(descriptor, kept)


def inherited() -> Estate | None:
    """What the program that was here before has left; None if this one was simply started. Nothing that is forked or
    started from here finds it again."""
    text = os.environ.pop(VARIABLE, "")
    if not text:
        return None
    descriptor = int(text)
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    os.close(descriptor)
    estate = _parsed(json.loads(content))
    keep(estate, kept=False)
    return estate


def _parsed(given: dict[str, Any]) -> Estate:
    """JSON knows no tuples."""
    tuples: dict[str, Any] = {
        name: tuple(cast("list[int]", value)) for name, value in given.items() if isinstance(value, list)
    }
    tuples["occupants"] = tuple(Occupant(**each) for each in given["occupants"])
    if reception := cast("dict[str, Any] | None", given["reception"]):
        reception["file"] = tuple(reception["file"])
        reception["guests"] = tuple(Guest(**each) for each in reception["guests"])
        tuples["reception"] = Reception(**reception)
    return Estate(**{**given, **tuples})
