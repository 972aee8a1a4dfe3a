"""Shared memory in which each worker writes down what it is doing, readable also after it was killed.

One run of pages a seat. Every field has exactly one writer, so there are no locks that a killed process could leave
held: the supervisor writes what it tells the worker; the steward for whom it vouches; the worker all the rest. A field
that is longer than one machine word is guarded by a byte that is cleared before and set after it is written: a worker
killed half-way leaves a cell that reads as empty, never as garbage.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from typing import cast

from docket import clock
from docket_supervisor.anonymous import anonymous_file
from docket_supervisor.bulletin import Bulletin
from docket_supervisor.tally import GOOD, TALLY_BYTES, Tallies, Tally

TICK = 0.25
"""Seconds between two ticks of a loop that has something to run."""
PHASES = ("", "starting", "working", "quiet", "draining", "left", "parked")
READY = frozenset({"working", "quiet", "parked"})
"""One that was told to leave while it was booting drains without ever having been ready."""

_WORD = struct.Struct("@q")
_INSTANT = struct.Struct("@d")
_COUNTERS = struct.Struct("@qqqq")
_IDENTITY = struct.Struct("@H700s")
# state, in a thread, started at, entry, key, task; a longer key or task is cut by struct itself.
_CELL = struct.Struct("@BB6xd48s80s56s")
# Behind each cell: deadline (0: none), allowed, verb, operand.
_LIMIT = struct.Struct("@ddqq")
_PITCH = _CELL.size + _LIMIT.size
_EMPTY, _RUNNING, _ENDED = 0, 1, 2
_VERBS = ("failed", "retry", "perpetuate")

_PID, _FORKED_AT, _DRAIN_AT, _QUIET, _STOOD_DOWN_AT = 0, 8, 16, 24, 32
_OVERDUE, _EVACUATING, _ASSIGNED, _STACKS_ASKED_AT = 40, 41, 48, 56
_VOUCHED_AT, _VOUCHED_PID = 64, 72
# Apart from the parent's and the steward's fields, so that no cache line has two writers.
_PHASE, _ENLISTED, _TICKED_AT, _TOTALS, _WORKER_ID = 128, 129, 136, 144, 176
_LAG, _ABANDONED, _PAUSE, _CELLS = 880, 888, 896, 960
_ENTRY_BYTES, _ID_BYTES = 48, 700


@dataclass(frozen=True)
class Limit:
    """A declared time limit of `allowed` seconds, and how the execution is settled if its process is killed for it."""

    deadline: float
    allowed: float
    verb: str
    operand: int


@dataclass(frozen=True)
class InFlight:
    """One execution whose body was running. `key` and `task` may be cut short; `entry` never is."""

    entry: str
    key: str
    task: str
    started_at: float
    thread: bool
    place: int = 0
    limit: Limit | None = None

    def __str__(self) -> str:
        return f"{self.key} ({self.task})"


@dataclass(frozen=True)
class Totals:
    """Counted by one process since it started; `completed` without an error. What outlives it is in the tallies."""

    started: int = 0
    completed: int = 0
    failed: int = 0
    redelivered: int = 0

    @property
    def settled(self) -> int:
        return self.completed + self.failed


class Board:
    """All seats. Made before the first fork; a file without a name, which vanishes with its last user."""

    def __init__(self, seats: int, concurrency: int, file: int | None = None) -> None:
        """`file`: that of an earlier supervisor, which this one has taken the place of."""
        if seats < 1 or concurrency < 1:
            raise ValueError(f"expected at least one seat and one place, got {seats} and {concurrency}")
        used = _CELLS + concurrency * _PITCH
        self._stride = _whole_pages(used)
        # One piece of memory: the seats, then what is said of the whole service, then the counters.
        bulletin_at = seats * self._stride
        tallies_at = bulletin_at + _whole_pages(Bulletin.size(seats))
        size = tallies_at + seats * TALLY_BYTES
        if file is None:
            file = anonymous_file("docket board")
            os.ftruncate(file, size)
        self.file = file
        self._memory = mmap.mmap(file, size)
        self._concurrency = concurrency
        whole = memoryview(self._memory)
        self.bulletin = Bulletin(whole[bulletin_at:tallies_at], seats)
        self.tallies = Tallies(whole[tallies_at:])
        self.seats = [Seat(self._memory, at * self._stride, self._stride, concurrency) for at in range(seats)]

    def close(self) -> None:
        """What a child does: the memory stays, and there is nobody to whom it would hand it on."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def writer(self, seat: int) -> Writer:
        return Writer(self._memory, seat * self._stride, self._concurrency, self.tallies.writer(seat))


class Writer:
    """The worker's side; conforms to `docket_runtime.board.Board`. About a microsecond a call."""

    def __init__(self, memory: mmap.mmap, base: int, concurrency: int, tally: Tally) -> None:
        self._memory = memory
        # One store each: `pack_into` clears the place before it writes, and a reader may look in between.
        self._instants = memoryview(memory).cast("d")
        self._base = base
        self._tally = tally
        self._pause = TICK
        self._totals = memoryview(memory)[base + _TOTALS : base + _TOTALS + _COUNTERS.size].cast("q")
        self._places = [base + _CELLS + place * _PITCH for place in range(concurrency)]

    def enlisted(self, worker_id: str) -> None:
        name = worker_id.encode()
        if len(name) > _ID_BYTES:
            raise ValueError(f"expected a worker id of at most {_ID_BYTES} bytes, got {len(name)}")
        self._memory[self._base + _ENLISTED] = 0
        if name:
            _IDENTITY.pack_into(self._memory, self._base + _WORKER_ID, len(name), name)
            self._memory[self._base + _ENLISTED] = 1

    def phase(self, phase: str) -> None:
        self._memory[self._base + _PHASE] = PHASES.index(phase)

    def tick(self, lag: float = 0.0, pause: float = TICK) -> None:
        # Whoever reads in between must not find a loop late that is about to rest, nor one that has just been roused.
        self._instants[(self._base + _LAG) // 8] = lag
        if pause > self._pause:
            self._instants[(self._base + _PAUSE) // 8] = pause
        self._instants[(self._base + _TICKED_AT) // 8] = clock.monotonic()
        self._instants[(self._base + _PAUSE) // 8] = self._pause = pause

    def began(self, place: int, entry: str, key: str, task: str, thread: bool) -> None:
        name = entry.encode()
        if len(name) > _ENTRY_BYTES:
            raise ValueError(f"expected an entry of at most {_ENTRY_BYTES} bytes, got {entry!r}")
        at = self._places[place]
        self._memory[at] = _EMPTY
        self._instants[(at + _CELL.size) // 8] = 0.0
        _CELL.pack_into(self._memory, at, _EMPTY, thread, clock.monotonic(), name, _bytes(key), _bytes(task))
        self._memory[at] = _RUNNING

    def limited(self, place: int, deadline: float, allowed: float, verb: str, operand: int) -> None:
        at = self._places[place] + _CELL.size
        _LIMIT.pack_into(self._memory, at, 0.0, allowed, _VERBS.index(verb), operand)
        self._instants[at // 8] = deadline

    def ended(self, place: int) -> None:
        self._memory[self._places[place]] = _ENDED

    def abandoned(self, threads: int) -> None:
        _WORD.pack_into(self._memory, self._base + _ABANDONED, threads)

    def started(self, task: str, redelivered: bool, late: float) -> None:
        self._totals[0] += 1
        if redelivered:
            self._totals[3] += 1
        self._tally.started(task, redelivered, late)

    def finished(self, task: str, outcome: str, failed: bool, seconds: float) -> None:
        if failed:
            self._totals[2] += 1
        elif outcome in GOOD:
            self._totals[1] += 1
        self._tally.finished(task, outcome, failed, seconds)

    @property
    def drain_at(self) -> float | None:
        return _INSTANT.unpack_from(self._memory, self._base + _DRAIN_AT)[0] or None

    @property
    def quiet(self) -> bool:
        return bool(self._memory[self._base + _QUIET])

    @property
    def standing_down(self) -> bool:
        return _WORD.unpack_from(self._memory, self._base + _STOOD_DOWN_AT)[0] != 0

    @property
    def stacks_asked_at(self) -> float:
        return _INSTANT.unpack_from(self._memory, self._base + _STACKS_ASKED_AT)[0]


class Seat:
    """The readers' side, with the few fields that the supervisor and the steward write."""

    def __init__(self, memory: mmap.mmap, base: int, size: int, concurrency: int) -> None:
        self._memory = memory
        # One store each: `pack_into` clears the place before it writes, and a reader may look in between.
        self._instants = memoryview(memory).cast("d")
        self._base = base
        self._size = size
        self._places = range(base + _CELLS, base + _CELLS + concurrency * _PITCH, _PITCH)

    def vacate(self) -> None:
        """Nothing is left of the previous holder. Only the supervisor calls this, after it reaped that process."""
        self._memory[self._base : self._base + self._size] = bytes(self._size)

    def taken(self, pid: int) -> None:
        _WORD.pack_into(self._memory, self._base + _PID, pid)
        self._set(_FORKED_AT, clock.monotonic())

    @property
    def pid(self) -> int:
        return _WORD.unpack_from(self._memory, self._base + _PID)[0]

    @property
    def forked_at(self) -> float:
        return self._instant(_FORKED_AT)

    @property
    def drain_at(self) -> float | None:
        return self._instant(_DRAIN_AT) or None

    @drain_at.setter
    def drain_at(self, deadline: float) -> None:
        self._set(_DRAIN_AT, deadline)

    @property
    def quiet(self) -> bool:
        """Whether its worker is to claim nothing."""
        return bool(self._memory[self._base + _QUIET])

    @quiet.setter
    def quiet(self, quiet: bool) -> None:
        self._memory[self._base + _QUIET] = quiet

    @property
    def stood_down_at(self) -> float:
        """Since when this worker is to claim and begin nothing; 0 if it may."""
        return self._instant(_STOOD_DOWN_AT)

    @stood_down_at.setter
    def stood_down_at(self, instant: float) -> None:
        self._set(_STOOD_DOWN_AT, instant)

    @property
    def evacuating(self) -> bool:
        """What it holds and has not begun is to be given to others."""
        return bool(self._memory[self._base + _EVACUATING])

    @evacuating.setter
    def evacuating(self, is_so: bool) -> None:
        self._memory[self._base + _EVACUATING] = is_so

    def stacks_asked(self) -> None:
        """Its stacks are wanted, by whichever of its threads can write them."""
        self._set(_STACKS_ASKED_AT, clock.monotonic())

    @property
    def assigned(self) -> int | None:
        """The slot that a spare is to stand for from now on."""
        slot = _WORD.unpack_from(self._memory, self._base + _ASSIGNED)[0]
        return slot - 1 if slot else None

    @assigned.setter
    def assigned(self, slot: int) -> None:
        _WORD.pack_into(self._memory, self._base + _ASSIGNED, slot + 1)

    @property
    def overdue(self) -> bool:
        """It is past a limit at which it should have been killed, and is still there."""
        return bool(self._memory[self._base + _OVERDUE])

    @overdue.setter
    def overdue(self, is_so: bool) -> None:
        self._memory[self._base + _OVERDUE] = is_so

    def vouch(self, pid: int) -> None:
        """The steward has renewed the lease of this process. Named, since the seat may just have got another one."""
        self._set(_VOUCHED_AT, 0.0)
        _WORD.pack_into(self._memory, self._base + _VOUCHED_PID, pid)
        self._set(_VOUCHED_AT, clock.monotonic())

    def vouched_at(self, pid: int) -> float:
        """When the steward last renewed the lease of this process; 0 if it never did."""
        vouched_for = _WORD.unpack_from(self._memory, self._base + _VOUCHED_PID)[0]
        return self._instant(_VOUCHED_AT) if vouched_for == pid else 0.0

    @property
    def phase(self) -> str:
        return PHASES[self._memory[self._base + _PHASE]]

    @property
    def ready(self) -> bool:
        return self.phase in READY

    @property
    def ticked_at(self) -> float:
        return self._instant(_TICKED_AT)

    @property
    def pause(self) -> float:
        """Seconds within which the next tick is to come."""
        return self._instant(_PAUSE) or TICK

    @property
    def loop_lag(self) -> float:
        """Seconds by which the last tick came too late."""
        return self._instant(_LAG)

    @property
    def abandoned(self) -> int:
        """Threads that run on although what they run was told to end."""
        return _WORD.unpack_from(self._memory, self._base + _ABANDONED)[0]

    @property
    def totals(self) -> Totals:
        return Totals(*_COUNTERS.unpack_from(self._memory, self._base + _TOTALS))

    @property
    def worker_id(self) -> str:
        """`""` while the worker is not enlisted, and when it was killed while it wrote its id."""
        if not self._memory[self._base + _ENLISTED]:
            return ""
        length, padded = _IDENTITY.unpack(self._steady(self._base + _WORKER_ID, _IDENTITY.size))
        name = padded[:length]
        # Another one may be half written by now. It is cleared before, and no id has such a byte.
        return "" if b"\0" in name else name.decode(errors="replace")

    @property
    def holder(self) -> tuple[int, str] | None:
        """The process in this seat and its worker id, which belong together; None while there are not both."""
        pid, name = self.pid, self.worker_id
        # The supervisor may have given the seat to another one while we read.
        return (pid, name) if pid and name and self.pid == pid else None

    @property
    def inflight(self) -> list[InFlight]:
        running: list[InFlight] = []
        for place, at in enumerate(self._places):
            if self._memory[at] == _RUNNING:
                cell = self._steady(at, _PITCH)
                state, thread, started_at, entry, key, task = _CELL.unpack_from(cell)
                if state == _RUNNING:
                    names = (_text(entry), _text(key), _text(task))
                    running.append(InFlight(*names, started_at, bool(thread), place, _limit(cell)))
        return running

    @property
    def is_busy(self) -> bool:
        """A body is running."""
        return any(self._memory[at] == _RUNNING for at in self._places)

    @property
    def begun(self) -> list[str]:
        """The entries of all that has begun and may not be settled yet: what has ended stays here until its place is
        taken, which is when Redis has answered to its settlement, or later."""
        found: list[str] = []
        for at in self._places:
            state, _, _, entry, _, _ = _CELL.unpack_from(self._steady(at, _CELL.size))
            if state != _EMPTY:
                found.append(_text(entry))
        return found

    def _set(self, field: int, instant: float) -> None:
        self._instants[(self._base + field) // 8] = instant

    def _instant(self, field: int) -> float:
        return _INSTANT.unpack_from(self._memory, self._base + field)[0]

    def _steady(self, at: int, size: int) -> bytes:
        """Read until two readings agree: a live worker may be writing, and it never waits for its readers."""
        seen = self._memory[at : at + size]
        for _ in range(8):
            again = self._memory[at : at + size]
            if again == seen:
                break
            seen = again
        return seen


def _whole_pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def _limit(cell: bytes) -> Limit | None:
    deadline, allowed, verb, operand = cast(
        "tuple[float, float, int, int]", _LIMIT.unpack_from(cell, _CELL.size)
    )
    return Limit(deadline, allowed, _VERBS[verb], operand) if deadline else None


def _bytes(text: str) -> bytes:
    """Keys are free text: even one that UTF-8 cannot write must not fail the execution here."""
    return text.encode(errors="replace")


def _text(raw: bytes) -> str:
    """Up to the padding; a character that the cell's end cut in two is dropped."""
    return raw.rstrip(b"\0").decode(errors="ignore")
