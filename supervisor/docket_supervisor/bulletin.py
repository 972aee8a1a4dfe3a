"""What is said about the service as a whole, in the same shared memory as its seats.

Whoever answers for the service (the steward, and another one after it) finds here what only the supervisor knows, and
the supervisor what only the steward knows. A field has one writer; it is read by everybody, at any moment.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import overload

from docket import clock

_WORD = 8
_FIGURES = struct.Struct("@qqqqd")


class _Field:
    """Where something stands on the page."""

    def __init__(self, offset: int) -> None:
        self._offset = offset


class Number(_Field):
    @overload
    def __get__(self, page: None, owner: object) -> Number: ...
    @overload
    def __get__(self, page: _Page, owner: object) -> int: ...
    def __get__(self, page: _Page | None, owner: object) -> Number | int:
        return self if page is None else page.words[self._offset // _WORD]

    def __set__(self, page: _Page, value: int) -> None:
        # Not struct.pack_into: it wipes the place before it writes, and a reader may come between.
        page.words[self._offset // _WORD] = value


class Instant(_Field):
    """Seconds of the monotonic clock, or of the wall clock; 0: it has not happened."""

    @overload
    def __get__(self, page: None, owner: object) -> Instant: ...
    @overload
    def __get__(self, page: _Page, owner: object) -> float: ...
    def __get__(self, page: _Page | None, owner: object) -> Instant | float:
        return self if page is None else page.floats[self._offset // _WORD]

    def __set__(self, page: _Page, value: float) -> None:
        page.floats[self._offset // _WORD] = value


class Flag(_Field):
    @overload
    def __get__(self, page: None, owner: object) -> Flag: ...
    @overload
    def __get__(self, page: _Page, owner: object) -> bool: ...
    def __get__(self, page: _Page | None, owner: object) -> Flag | bool:
        return self if page is None else bool(page.memory[self._offset])

    def __set__(self, page: _Page, value: bool) -> None:
        page.memory[self._offset] = value


class Text(_Field):
    """At most so many bytes; what is longer is cut. A reader sees the old text, the new one or none, never a mixture
    that is kept: the length is taken away first and put back last."""

    def __init__(self, offset: int, most: int) -> None:
        super().__init__(offset)
        self._most = most

    @overload
    def __get__(self, page: None, owner: object) -> Text: ...
    @overload
    def __get__(self, page: _Page, owner: object) -> str: ...
    def __get__(self, page: _Page | None, owner: object) -> Text | str:
        if page is None:
            return self
        # Twice: another text of the same length may be put there while we read.
        length, text = self._look(page)
        return text.decode(errors="replace") if (length, text) == self._look(page) else ""

    def _look(self, page: _Page) -> tuple[int, bytes]:
        length = page.memory[self._offset]
        return length, bytes(page.memory[self._offset + 1 : self._offset + 1 + length])

    def __set__(self, page: _Page, value: str) -> None:
        raw = value.encode(errors="replace")[: self._most].decode(errors="ignore").encode()
        page.memory[self._offset] = 0
        page.memory[self._offset + 1 : self._offset + 1 + len(raw)] = raw
        page.memory[self._offset] = len(raw)


class _Page:
    SIZE = 0

    def __init__(self, memory: memoryview) -> None:
        self.memory = memory
        self.words = memory.cast("q")
        self.floats = memory.cast("d")


@dataclass(frozen=True)
class LastDeath:
    """`at`: seconds of the wall clock."""

    cause: str
    at: float


@dataclass(frozen=True)
class Queue:
    """What the steward found in Redis at the monotonic instant `at`; as `docket.store.figures.Figures`."""

    due: int
    scheduled: int
    waiting: int
    dead: int
    latency: float
    at: float


class SlotNotice(_Page):
    """What outlasts the workers of one slot. Written by the supervisor."""

    SIZE = 256
    _seated = Number(0)  # one more than the seat, so that empty memory means none
    restarts = Number(8)
    generation = Number(16)
    _died_at = Instant(24)
    state = Text(32, 31)
    """Of the slot while no worker is in it; else the board says it."""
    _cause = Text(64, 190)

    @property
    def seat(self) -> int:
        """Where its worker sits; -1: nowhere."""
        return self._seated - 1

    @seat.setter
    def seat(self, number: int) -> None:
        self._seated = number + 1

    @property
    def last_death(self) -> LastDeath | None:
        for _ in range(8):
            at, cause = self._died_at, self._cause
            if at and at == self._died_at:
                return LastDeath(cause, at)
        return None

    def died(self, cause: str) -> None:
        self._died_at = 0.0
        self._cause = cause
        self._died_at = clock.now().timestamp()


class _Toll(_Page):
    SIZE = 64
    count = Number(0)
    label = Text(8, 50)


CAUSES = 32
OTHER_CAUSE = "other"


class Bulletin(_Page):
    """Written by the supervisor, except for what the steward measures."""

    supervisor_pid = Number(0)
    template_pid = Number(8)
    steward_pid = Number(16)
    generation = Number(24)
    wanted = Number(32)
    """Worker processes that there are to be now."""
    started_at = Instant(40)
    ticked_at = Instant(48)
    """The supervisor's loop has turned."""
    quiet = Flag(56)
    complete = Flag(57)
    """As many workers as a start waits for have been ready; this stays so."""
    phase = Text(64, 31)
    # On a cache line of its own: this one the steward writes.
    _measured_at = Instant(128)
    _figures = 136
    _reachable = Number(192)
    steward_ticked_at = Instant(200)
    """The steward's loop has turned."""
    _SLOTS = 256

    @classmethod
    def size(cls, slots: int) -> int:
        return cls._SLOTS + CAUSES * _Toll.SIZE + slots * SlotNotice.SIZE

    def __init__(self, memory: memoryview, slots: int) -> None:
        super().__init__(memory)
        at = self._SLOTS
        self._tolls = [_Toll(memory[at + each * _Toll.SIZE :][: _Toll.SIZE]) for each in range(CAUSES)]
        at += CAUSES * _Toll.SIZE
        self.slots = [
            SlotNotice(memory[at + each * SlotNotice.SIZE :][: SlotNotice.SIZE]) for each in range(slots)
        ]

    def tick(self) -> None:
        self.ticked_at = clock.monotonic()

    # Deaths by cause

    def died(self, label: str) -> None:
        """One worker process more has died of this. Labels are few; what is more than that is `other`."""
        for toll in self._tolls[:-1]:
            if not toll.label:
                toll.label = label
            if toll.label == label:
                toll.count += 1
                return
        self._tolls[-1].label = OTHER_CAUSE
        self._tolls[-1].count += 1

    def deaths(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for toll in self._tolls:
            if toll.label:
                found[toll.label] = found.get(toll.label, 0) + toll.count
        return found

    # What the steward has found

    @property
    def reachable(self) -> bool | None:
        """Whether Redis answered the steward when it last asked; None: it has not said."""
        return {0: None, 1: False, 2: True}[self._reachable]

    @reachable.setter
    def reachable(self, answers: bool) -> None:
        self._reachable = 1 + answers

    def measured(self, due: int, scheduled: int, waiting: int, dead: int, latency: float) -> None:
        self._measured_at = 0.0
        _FIGURES.pack_into(self.memory, self._figures, due, scheduled, waiting, dead, latency)
        self._measured_at = clock.monotonic()

    @property
    def queue(self) -> Queue | None:
        """None until it has been measured."""
        for _ in range(8):
            at = self._measured_at
            figures = _FIGURES.unpack_from(self.memory, self._figures)
            if at and at == self._measured_at:
                return Queue(*figures, at=at)
        return None
