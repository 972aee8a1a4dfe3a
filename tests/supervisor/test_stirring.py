"""Whether anything happens is seen on the board."""

from __future__ import annotations

from docket_supervisor.board import Board
from docket_supervisor.stirring import CALM_AFTER, Stirring


def test_whatever_comes_goes_begins_or_runs_stirs_the_service() -> None:
    board = Board(2, 3)
    seat, writer = board.seats[1], board.writer(1)
    stirring = Stirring(board.seats)
    now = 1000.0

    def stirs() -> bool:
        nonlocal now
        now += 2 * CALM_AFTER
        stirring.look(now)
        return stirring.lately(now)

    assert [stirs(), stirs()] == [True, False]
    seat.taken(42)
    assert [stirs(), stirs()] == [True, False]
    writer.started("task", False, 0.0)
    writer.began(2, "d:1-0", "key", "task", False)
    assert [stirs(), stirs(), stirs()] == [True, True, True]
    writer.ended(2)
    assert [stirs(), stirs()] == [False, False]


def test_it_is_calm_a_while_after_the_last_thing() -> None:
    board = Board(1, 1)
    stirring = Stirring(board.seats)
    board.seats[0].taken(42)
    stirring.look(1000.0)
    assert stirring.since(1000.0) and not stirring.since(1000.1)
    stirring.look(1000.0 + CALM_AFTER - 0.1)
    assert stirring.lately(1000.0 + CALM_AFTER - 0.1) and not stirring.lately(1000.0 + CALM_AFTER)
