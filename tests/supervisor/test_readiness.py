"""The three probes as tables: what the board says, and what is answered."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from docket_runtime.settings import WorkerSettings
from docket_supervisor.board import Board
from docket_supervisor.readiness import readiness
from docket_supervisor.settings import SupervisorSettings


def board(*phases: str, **facts: object) -> Board:
    """A service in order, with a worker in each of these phases."""
    board = Board(len(phases) + 2, 1)
    page = board.bulletin
    page.phase, page.reachable, page.complete, page.wanted = "running", True, True, len(phases)
    page.tick()
    for number, phase in enumerate(phases):
        page.slots[number].seat = number
        board.seats[number].taken(1000 + number)
        board.writer(number).phase(phase)
    for name, value in facts.items():
        setattr(page, name, value)
    return board


def settings(min_ready: int | None = None) -> SupervisorSettings:
    return SupervisorSettings(worker=WorkerSettings(), processes=4, min_ready=min_ready)


def answers(board: Board, min_ready: int | None = None) -> tuple[bool, bool, bool]:
    found = readiness(board, settings(min_ready))
    return found.startup.passed, found.ready.passed, found.live.passed


@pytest.mark.parametrize(
    ("board", "min_ready", "expected"),
    [
        (board("working", "working"), None, (True, True, True)),
        (board("working", "starting"), None, (True, True, True)),
        (board("working", "starting"), 2, (True, False, True)),
        (board("working", "working"), 2, (True, True, True)),
        (board("starting", "starting", complete=False), None, (False, False, True)),
        (board("quiet", "quiet", quiet=True, phase="quiet"), None, (True, False, True)),
        # Between the order to be quiet and the moment at which the last worker obeys.
        (board("working", "quiet", quiet=True), None, (True, False, True)),
        (board("draining", "working", phase="draining"), None, (True, False, True)),
        (board("working", reachable=False), None, (True, False, True)),
        (board("working", ticked_at=time.monotonic() - 6), None, (True, False, False)),
        (board(), None, (True, False, True)),
    ],
)
def test_what_is_answered(board: Board, min_ready: int | None, expected: tuple[bool, bool, bool]) -> None:
    board.bulletin.ticked_at = board.bulletin.ticked_at if expected[2] is False else time.monotonic()
    assert answers(board, min_ready) == expected


def test_nobody_knows_yet_whether_redis_answers() -> None:
    fresh = Board(2, 1)
    fresh.bulletin.tick()
    assert answers(fresh) == (False, False, True)


def test_quarantine_is_no_worker() -> None:
    page = board("left")
    page.seats[2].taken(77)
    page.writer(2).phase("working")
    assert answers(page) == (True, False, True)


def test_a_worker_that_should_have_been_killed_long_ago_fails_liveness() -> None:
    service = board("working", "draining")
    service.seats[1].drain_at = time.monotonic() - 5
    assert answers(service)[2]
    service.seats[1].drain_at = time.monotonic() - 8
    assert not answers(service)[2]
    assert "should have been killed" in readiness(service, settings()).live.reason


def test_a_worker_past_its_kill_limit_fails_liveness() -> None:
    service = board("working")
    service.seats[0].overdue = True
    assert not answers(service)[2]


REASONS: list[tuple[Callable[[], Board], str, str]] = [
    (lambda: board("working"), "ready", "1 workers claim, at least 1 must"),
    (lambda: board("working", reachable=False), "ready", "Redis does not answer, or takes no writes"),
    (lambda: board("working", phase="draining"), "ready", "the service is draining"),
    (lambda: board("starting", complete=False), "startup", "0 of 1 workers have become ready"),
]


@pytest.mark.parametrize(("make", "probe", "reason"), REASONS)
def test_the_reason_is_told(make: Callable[[], Board], probe: str, reason: str) -> None:
    assert getattr(readiness(make(), settings()), probe).reason == reason
