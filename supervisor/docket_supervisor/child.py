"""What a freshly forked process does before it is a worker: its session, its title, its surroundings."""

from __future__ import annotations

import importlib
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

from docket import clock
from docket_supervisor import titles
from docket_supervisor.board import Board, Seat, Writer
from docket_supervisor.channel import Notices
from docket_supervisor.codes import ExitCode
from docket_supervisor.lifeline import Lifeline
from docket_supervisor.listening import Entrance
from docket_supervisor.loading import LoadFailed, load, set_up
from docket_supervisor.messages import ImportFailed, PhaseChanged
from docket_supervisor.metrics_files import MetricsFiles
from docket_supervisor.parking import parked
from docket_supervisor.settings import SupervisorSettings
from docket_supervisor.spool import Spool
from docket_supervisor.strays import COOKIE, end_own, mark

RUN_WORKER = "docket_runtime.run:run_worker"

SEATED_PAUSE, SEATED_TRIES = 0.0005, 20_000


@dataclass(frozen=True)
class Inheritance:
    """What every process of the service gets from the supervisor by being forked."""

    settings: SupervisorSettings
    board: Board
    lifeline: Lifeline
    notices: Notices
    spool: Spool
    entrance: Entrance = field(default_factory=lambda: Entrance("", None))
    metrics: MetricsFiles = field(default_factory=MetricsFiles)
    run_worker: str = RUN_WORKER
    """Found by name after the fork, for the supervisor itself must not import the runtime."""


class NoticedBoard(Writer):
    """A board that wakes the supervisor when the phase changes."""

    def __init__(self, board: Writer, seat: int, notices: Notices, lifeline: Lifeline) -> None:
        vars(self).update(vars(board))
        self._seat_number = seat
        self._notices = notices
        self._lifeline = lifeline

    @property
    def drain_at(self) -> float | None:
        """A worker that is told to leave by somebody else than its supervisor hands nothing back in a time of its own:
        its supervisor decides what becomes of that, as long as there is one."""
        return super().drain_at or (None if self._lifeline.severed else math.inf)

    def phase(self, phase: str) -> None:
        super().phase(phase)
        self._notices.tell(PhaseChanged(self._seat_number))


def be_worker(inherited: Inheritance, seat: int, slot: int, generation: int, *, quarantine: bool) -> int:
    """Runs the worker of this seat, which stands for this slot; returns its exit code. A negative slot: it is a spare,
    and waits until there is one for it."""
    settings = inherited.settings
    # At once: until then it looks like another of whatever it was forked from.
    titled = _titled(settings, slot, generation, quarantine)
    if not seated(inherited.board.seats[seat], inherited.lifeline):
        return ExitCode.CLEAN
    # A session of its own: the terminal's signals do not reach it, and what its tasks start can be told by it.
    os.setsid()
    supervisor = os.getppid()  # by now: we have been seated
    os.environ[COOKIE] = mark(os.getpid(), supervisor)
    board = NoticedBoard(inherited.board.writer(seat), seat, inherited.notices, inherited.lifeline)
    board.phase("starting")
    inherited.metrics.adopt(str(seat))
    # Early: a module that never ends importing is to be seen, too.
    from docket_runtime.dumping import dump_on_request

    inherited.spool.keep_only(seat)
    dump_on_request(inherited.spool.file(seat))
    try:
        load(settings.worker.tasks, settings.app_dir)
        set_up(settings.worker_setup)
    except LoadFailed as failure:
        inherited.notices.tell(ImportFailed(str(failure)))
        return ExitCode.IMPORT
    if slot < 0 and not quarantine:
        board.phase("parked")
        assigned = parked(inherited.board.seats[seat], inherited.lifeline)
        if assigned is None:
            return ExitCode.CLEAN
        board.phase("starting")
        titled = _titled(settings, assigned, generation, quarantine)
    try:
        return _run(inherited, seat, board, titled, quarantine)
    finally:
        if inherited.lifeline.severed:
            _end_session(supervisor)


def _titled(
    settings: SupervisorSettings, slot: int, generation: int, quarantine: bool
) -> Callable[[int, int], None]:
    if quarantine:
        return titles.quarantine(settings.docket.name)
    if slot < 0:
        return titles.spare(settings.docket.name)
    return titles.worker(settings.docket.name, slot, generation, settings.worker.concurrency)


def seated(seat: Seat, lifeline: Lifeline) -> bool:
    """True once the supervisor knows us. Before that nothing may be written: a template that died before it could tell
    our pid leaves us without a seat, and the next worker may be sitting in it."""
    pid, tries = os.getpid(), 0
    # Read once for both questions: it may be told in between.
    while (told := seat.pid) != pid:
        tries += 1
        if told or lifeline.severed or tries > SEATED_TRIES:
            return False
        time.sleep(SEATED_PAUSE)
    return True


def _run(
    inherited: Inheritance, seat: int, board: Writer, titled: Callable[[int, int], None], quarantine: bool
) -> int:
    # After the fork only: the supervisor stays small, and the template has loaded it once for all.
    from docket_runtime.surroundings import Surroundings

    worker = inherited.settings.worker
    if quarantine:
        worker = replace(worker, concurrency=1, threads=1)
    surroundings = Surroundings(
        board=board,
        vouched=_vouching(inherited, inherited.board.seats[seat]),
        orphaned=inherited.lifeline.reader,
        quarantine=quarantine,
        suspects=False,
        titled=titled,
        stacks=inherited.spool.file(seat),
        crew=inherited.settings.processes,
    )
    return resolve(inherited.run_worker)(inherited.settings.docket, worker, surroundings)


def resolve(reference: str) -> Callable[..., int]:
    """The function that `module:name` refers to."""
    module, _, name = reference.partition(":")
    return cast("Callable[..., int]", getattr(importlib.import_module(module), name))


def _vouching(inherited: Inheritance, seat: Seat) -> Callable[[], bool]:
    """Whether the steward can be relied on: it has renewed this process's lease recently, and has a supervisor.

    Recently, because a steward can die, stop or lose Redis too; half a lease leaves the worker time to do it itself.
    A worker that has just come has taken its lease itself: until the steward's first renewal it must not think that it
    is alone, and hand over as a neighbour's what the steward is about to.
    """
    pid, came_at = os.getpid(), clock.monotonic()
    recent = inherited.settings.worker.redelivery_timeout.total_seconds() / 2

    def vouched() -> bool:
        if inherited.lifeline.severed:
            return False
        return clock.monotonic() - max(came_at, seat.vouched_at(pid)) < recent

    return vouched


def _end_session(supervisor: int) -> None:
    """Nobody is left to end what tasks have started, so the worker does as it leaves. Should that take longer than it
    may stay, the steward kills it and goes on."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_own(supervisor)
