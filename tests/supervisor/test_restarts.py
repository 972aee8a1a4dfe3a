"""Backoff and budget of a slot."""

from __future__ import annotations

from datetime import timedelta

import pytest

from docket_supervisor.restarts import GiveUp, Life, Restart, Restarts

FAILED = Life(seconds=0.1, settled=0, explained=False)


def restarts(limit: int = 5) -> Restarts:
    return Restarts(limit, timedelta(seconds=60), jitter=lambda low, high: high)


def test_the_first_restart_comes_at_once_and_the_next_ones_ever_later() -> None:
    slot = restarts(limit=20)
    delays = [slot.died(0.0, FAILED) for _ in range(11)]
    assert delays == [Restart(after) for after in (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0)]


def test_delays_are_spread_from_zero_upwards() -> None:
    asked: list[tuple[float, float]] = []

    def jitter(low: float, high: float) -> float:
        asked.append((low, high))
        return 0.05

    slot = Restarts(5, timedelta(seconds=60), jitter)
    assert [slot.died(0.0, FAILED), slot.died(0.0, FAILED)] == [Restart(0.0), Restart(0.05)]
    assert asked == [(0.0, 0.1)]


def test_a_slot_is_given_up_after_its_restarts_are_used_up() -> None:
    slot = restarts(limit=2)
    assert [slot.died(1.0, FAILED), slot.died(2.0, FAILED)] == [Restart(0.0), Restart(0.1)]
    assert slot.died(3.0, FAILED) == GiveUp(restarts=2)


def test_without_any_restart_the_first_death_is_the_last() -> None:
    assert restarts(limit=0).died(0.0, FAILED) == GiveUp(restarts=0)


def test_failures_are_forgotten_after_the_window() -> None:
    slot = restarts(limit=1)
    assert slot.died(0.0, FAILED) == Restart(0.0)
    assert slot.died(60.0, FAILED) == Restart(0.0)
    assert slot.died(61.0, FAILED) == GiveUp(restarts=1)


@pytest.mark.parametrize(
    "life",
    [
        Life(seconds=10.0, settled=0, explained=False),
        Life(seconds=0.1, settled=1, explained=False),
        Life(seconds=0.1, settled=0, explained=True),
    ],
    ids=["it lived for long", "it settled something", "an execution explains it"],
)
def test_a_death_of_a_worker_that_got_somewhere_costs_nothing(life: Life) -> None:
    slot = restarts(limit=0)
    assert [slot.died(0.0, life) for _ in range(50)] == [Restart(0.0)] * 50


def test_a_worker_that_never_became_ready_has_failed_however_long_it_took() -> None:
    slot = restarts(limit=0)
    assert slot.died(0.0, Life(seconds=60.0, settled=0, explained=False, ready=False)) == GiveUp(0)
