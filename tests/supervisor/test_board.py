"""The board: what a worker writes is read by others, also while it writes and after it was killed."""

from __future__ import annotations

import os
import signal
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docket_runtime.board import Board as Protocol
from docket_supervisor.board import Board, InFlight, Limit, Totals


def test_a_fresh_seat_says_nothing() -> None:
    seat = Board(2, 3).seats[1]
    assert (seat.pid, seat.worker_id, seat.phase, seat.ready) == (0, "", "", False)
    assert (seat.inflight, seat.totals, seat.ticked_at, seat.drain_at) == ([], Totals(), 0.0, None)


def test_what_a_worker_writes_is_what_others_read() -> None:
    board = Board(2, 3)
    writer: Protocol = board.writer(1)
    writer.enlisted("host#12/abcdef")
    writer.phase("working")
    writer.tick()
    for redelivered in (False, True, False, True):
        writer.started("task", redelivered, 0.0)
    for outcome, failed in (
        ("completed", False),
        ("perpetuate", False),
        ("retry", True),
        ("interrupted", False),
    ):
        writer.finished("task", outcome, failed, 0.0)
    writer.began(2, "d:1700000000000-0", "key", "task", True)
    writer.began(0, "r:1-0", "other", "task", False)
    seat = board.seats[1]
    assert (seat.worker_id, seat.phase, seat.ready) == ("host#12/abcdef", "working", True)
    assert seat.totals == Totals(4, 2, 1, 2) and seat.totals.settled == 3
    assert 0 <= time.monotonic() - seat.ticked_at < 5
    first, second = seat.inflight
    assert first == InFlight("r:1-0", "other", "task", first.started_at, thread=False)
    assert second == InFlight("d:1700000000000-0", "key", "task", second.started_at, True, place=2)
    assert board.seats[0].inflight == []
    writer.tick(0.25)
    writer.abandoned(3)
    assert (seat.loop_lag, seat.abandoned) == (0.25, 3)
    writer.ended(2)
    writer.enlisted("")
    assert seat.inflight == [first]
    assert seat.worker_id == ""


def test_a_place_is_used_again_and_again() -> None:
    board = Board(1, 1)
    writer = board.writer(0)
    for number in range(100):
        writer.began(0, f"d:{number}-0", "k" * number, "t", False)
        assert [each.entry for each in board.seats[0].inflight] == [f"d:{number}-0"]
        writer.ended(0)
    assert board.seats[0].inflight == []


def test_what_has_ended_has_been_begun_until_its_place_is_taken() -> None:
    """A loop may stand still before it has sent an outcome: nobody else is to run that execution again."""
    board = Board(1, 2)
    writer, seat = board.writer(0), board.seats[0]
    writer.began(0, "d:1-0", "key", "task", False)
    writer.began(1, "d:2-0", "other", "task", False)
    writer.ended(0)
    assert [each.entry for each in seat.inflight] == ["d:2-0"]
    assert seat.begun == ["d:1-0", "d:2-0"]
    writer.began(0, "d:3-0", "next", "task", False)
    assert seat.begun == ["d:3-0", "d:2-0"]


def test_a_time_limit_stands_beside_the_execution_that_declared_it() -> None:
    board = Board(1, 3)
    writer, seat = board.writer(0), board.seats[0]
    writer.began(1, "d:1-0", "key", "task", True)
    writer.began(2, "d:2-0", "other", "task", True)
    writer.limited(1, 12.5, 5.0, "retry", 2_000_000)
    assert [each.limit for each in seat.inflight] == [Limit(12.5, 5.0, "retry", 2_000_000), None]
    writer.limited(1, 20.0, 5.0, "retry", 2_000_000)
    assert seat.inflight[0].limit == Limit(20.0, 5.0, "retry", 2_000_000)
    writer.ended(1)
    writer.began(1, "d:3-0", "next", "task", False)
    assert seat.inflight[0].limit is None


def test_a_worker_is_told_to_stand_down_and_to_go_on() -> None:
    board = Board(2, 1)
    writer, seat = board.writer(1), board.seats[1]
    assert not writer.standing_down
    seat.stood_down_at = 7.5
    assert writer.standing_down and seat.stood_down_at == 7.5
    assert not board.writer(0).standing_down
    seat.stood_down_at = 0.0
    assert not writer.standing_down
    seat.overdue = True
    assert seat.overdue and not board.seats[0].overdue
    seat.vacate()
    assert not seat.overdue


@given(key=st.text(), task=st.text())
def test_any_key_can_be_written_and_a_long_one_is_cut_short(key: str, task: str) -> None:
    board = Board(1, 1)
    board.writer(0).began(0, "d:1-0", key, task, False)
    (running,) = board.seats[0].inflight
    shown = key.encode(errors="replace").decode()
    assert shown.startswith(running.key) or "\0" in shown
    assert running.entry == "d:1-0"


def test_a_character_that_the_end_cuts_in_two_is_dropped() -> None:
    board = Board(1, 1)
    board.writer(0).began(0, "d:1-0", "é" * 60 + "x", "a" + "é" * 60, False)
    (running,) = board.seats[0].inflight
    assert (running.key, running.task) == ("é" * 40, "a" + "é" * 27)


def test_what_must_not_be_cut_is_refused() -> None:
    writer = Board(1, 1).writer(0)
    with pytest.raises(ValueError, match="at most 48 bytes"):
        writer.began(0, "d:" + "1" * 60, "k", "t", False)
    with pytest.raises(ValueError, match="at most 700 bytes"):
        writer.enlisted("x" * 701)


def test_the_supervisor_sets_the_instant_and_the_worker_reads_it() -> None:
    board = Board(1, 1)
    assert board.writer(0).drain_at is None
    board.seats[0].drain_at = 12.5
    assert board.writer(0).drain_at == 12.5


def test_a_renewed_lease_is_that_of_the_process_it_was_renewed_for() -> None:
    seat = Board(1, 1).seats[0]
    seat.vouch(41)
    assert time.monotonic() - seat.vouched_at(41) < 5
    assert seat.vouched_at(42) == 0.0


def test_a_vacated_seat_says_nothing_of_its_last_holder() -> None:
    board = Board(2, 2)
    for seat in (0, 1):
        board.seats[seat].taken(99)
        board.writer(seat).enlisted("w/1")
        board.writer(seat).began(1, "d:1-0", "k", "t", False)
    board.seats[0].vacate()
    assert (board.seats[0].pid, board.seats[0].worker_id, board.seats[0].inflight) == (0, "", [])
    assert board.seats[1].worker_id == "w/1" and len(board.seats[1].inflight) == 1


def test_a_worker_killed_while_it_writes_leaves_no_garbage() -> None:
    """Fifty writers are killed at some moment of writing; what is then read was written as one piece."""
    for _ in range(50):
        board = Board(1, 4)
        pid = os.fork()
        if pid == 0:
            writer = board.writer(0)
            writer.phase("working")
            number = 0
            while True:
                number += 1
                name = f"{number:010d}"
                writer.enlisted(f"w/{name}")
                writer.began(number % 4, f"d:{name}", f"k-{name}", f"t-{name}", bool(number % 2))
        try:
            while not board.seats[0].inflight:
                pass
            for _ in range(20):
                _well_formed(board)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        _well_formed(board)


def _well_formed(board: Board) -> None:
    name = board.seats[0].worker_id
    assert name == "" or (name.startswith("w/") and len(name) == 12)
    for each in board.seats[0].inflight:
        number = each.entry.removeprefix("d:")
        assert (each.key, each.task) == (f"k-{number}", f"t-{number}")


def test_writing_is_cheap() -> None:
    writer = Board(1, 100).writer(0)
    best = 1.0
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(2_000):
            writer.began(7, "d:1700000000000-0", "some-key-of-usual-length", "my_task", False)
            writer.ended(7)
        best = min(best, (time.perf_counter() - started) / 2_000)
    assert best < 20e-6, f"{best * 1e6:.1f} µs for began and ended"
