"""The answers to the three probes, from the board alone: who is asked need not be who knows."""

from __future__ import annotations

from dataclasses import dataclass

from docket import clock
from docket_supervisor.board import Board, Seat
from docket_supervisor.settings import SupervisorSettings

SILENCE = 5.0
"""Seconds without a turn of the supervisor's loop after which it counts as stuck."""


@dataclass(frozen=True)
class Probe:
    """`reason` is for people, also when all is well."""

    passed: bool
    reason: str


@dataclass(frozen=True)
class Readiness:
    startup: Probe
    ready: Probe
    live: Probe


def readiness(board: Board, settings: SupervisorSettings) -> Readiness:
    now = clock.monotonic()
    return Readiness(_startup(board), _ready(board, settings, now), _live(board, settings, now))


def workers(board: Board) -> list[Seat]:
    """The seats whose workers stand for a slot: neither quarantine nor on their way in or out."""
    seats = [notice.seat for notice in board.bulletin.slots]
    return [board.seats[seat] for seat in seats if seat >= 0]


def _startup(board: Board) -> Probe:
    if board.bulletin.complete:
        return Probe(True, "the start is complete")
    return Probe(False, f"{_claiming(board)} of {board.bulletin.wanted} workers have become ready")


def _ready(board: Board, settings: SupervisorSettings, now: float) -> Probe:
    if board.bulletin.reachable is not True:
        return Probe(False, "Redis does not answer, or takes no writes")
    if board.bulletin.phase not in ("starting", "running") or board.bulletin.quiet:
        return Probe(False, f"the service is {board.bulletin.phase or 'starting'}")
    if now - board.bulletin.ticked_at > SILENCE:
        return Probe(False, _silent(board, now))
    claiming, needed = _claiming(board), settings.min_ready or 1
    return Probe(claiming >= needed, f"{claiming} workers claim, at least {needed} must")


def _live(board: Board, settings: SupervisorSettings, now: float) -> Probe:
    if now - board.bulletin.ticked_at > SILENCE:
        return Probe(False, _silent(board, now))
    patience = settings.kill_margin.total_seconds() + SILENCE
    for number, seat in enumerate(board.seats):
        pid, deadline = seat.pid, seat.drain_at
        drained_long_ago = deadline is not None and now > deadline + patience
        # Still the same process: another one may have been seated while we read.
        if pid and (seat.overdue or drained_long_ago) and seat.pid == pid:
            return Probe(False, f"worker {pid} in seat {number} should have been killed by now")
    return Probe(True, "the supervisor's loop turns")


def _claiming(board: Board) -> int:
    return sum(1 for seat in workers(board) if seat.phase == "working")


def _silent(board: Board, now: float) -> str:
    return f"the supervisor's loop has not turned for {now - board.bulletin.ticked_at:.0f}s"
