"""How many processes the work needs: samples in, numbers out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest

from docket_supervisor.scaling import GROW_AFTER, SETTLING, SHRINK_AFTER, Sample, Scaling

CONCURRENCY = 10

Second = tuple[int, int, float]
"""Busy, due, latency."""

OVERLOADED: Second = (1000, 500, 30.0)
IDLE: Second = (0, 0, 0.0)
NORMAL: Second = (12, 0, 0.0)


def lived(scaling: Scaling, size: int, seconds: Iterable[Second], start: float = 0.0) -> list[int]:
    """How many processes there are after each second of such work, each ready at once."""
    sizes: list[int] = []
    for second, (busy, due, latency) in enumerate(seconds):
        places = size * CONCURRENCY
        sample = Sample(start + second, size, size, min(busy, places), places, due, latency)
        size = scaling.decide(sample)
        sizes.append(size)
    return sizes


def test_work_that_waits_leads_to_more_processes_up_to_the_most() -> None:
    sizes = lived(Scaling(1, 8), 1, [OVERLOADED] * 30)
    assert sizes[0] == 1 and sizes[-1] == 8
    assert sorted(set(sizes)) == [1, 2, 4, 8], "at most doubled at a time"


def test_no_more_than_what_waits_needs() -> None:
    waiting: Second = (30, 3, 5.0)
    assert lived(Scaling(1, 20), 4, [waiting] * 4)[-1] == 5


def test_an_idle_service_goes_back_to_the_fewest_one_by_one() -> None:
    sizes = lived(Scaling(2, 8), 5, [IDLE] * 100)
    assert sizes[-1] == 2
    assert all(before - after in (0, 1) for before, after in itertools.pairwise(sizes))
    assert sizes.index(4) >= SHRINK_AFTER


@pytest.mark.parametrize("moment", [OVERLOADED, IDLE])
def test_a_moment_changes_nothing(moment: Second) -> None:
    assert set(lived(Scaling(1, 8), 2, [NORMAL, moment, NORMAL] * 20)) == {2}


def test_busy_places_are_no_reason_while_nothing_waits() -> None:
    assert set(lived(Scaling(1, 8), 2, [(20, 0, 0.0)] * 100)) == {2}


def test_all_places_busy_and_something_waiting_is_a_reason_before_it_waits_for_long() -> None:
    assert lived(Scaling(1, 8), 2, [(20, 1, 0.2)] * 4)[-1] == 3


def test_free_places_and_something_waiting_for_a_moment_is_none() -> None:
    assert set(lived(Scaling(1, 8), 2, [(5, 2, 0.1)] * 100)) == {2}


def test_what_waits_beside_free_places_has_been_seen_to() -> None:
    """A backlog that was measured just before it was taken."""
    assert set(lived(Scaling(1, 8), 2, [(0, 28, 5.3)] * 100)) == {2}


def test_half_of_the_places_busy_and_work_that_has_waited_for_a_second_is_a_reason() -> None:
    assert lived(Scaling(1, 8), 2, [(10, 2, 1.0)] * 4)[-1] == 3


@pytest.mark.parametrize("busy", [6, 8, 10, 12, 19])
def test_between_too_few_and_too_many_nothing_moves(busy: int) -> None:
    assert set(lived(Scaling(1, 8), 2, [(busy, 0, 0.0)] * 200)) == {2}


def test_one_process_less_must_not_be_one_too_few() -> None:
    """What makes the service shrink may not make it grow again."""
    for size in range(2, 9):
        for busy in range(size * CONCURRENCY + 1):
            steady = [(busy, 0, 0.0)] * 400
            sizes = lived(Scaling(1, 8), size, steady)
            assert sizes == sorted(sizes, reverse=True)
            assert busy <= sizes[-1] * CONCURRENCY * 0.9 or sizes[-1] == size


def test_a_change_is_given_time_to_show_its_effect() -> None:
    sizes = lived(Scaling(1, 16), 2, [OVERLOADED] * 30)
    changes = [second for second in range(1, 30) if sizes[second] != sizes[second - 1]]
    assert changes[0] == GROW_AFTER
    assert all(later - earlier >= SETTLING for earlier, later in itertools.pairwise(changes))


def test_while_processes_are_booting_nothing_is_decided() -> None:
    scaling = Scaling(1, 8)
    for second in range(60):
        assert scaling.decide(Sample(second, 4, 3, 30, 30, 500, 60.0)) == 4
        assert scaling.decide(Sample(second, 4, 0, 0, 0, 500, 60.0)) == 4


@pytest.mark.parametrize("work", [OVERLOADED, IDLE])
def test_the_bounds_hold(work: Second) -> None:
    assert set(lived(Scaling(3, 3), 3, [work] * 100)) == {3}


def test_the_reason_is_told_in_a_line() -> None:
    assert (
        Sample(0, 2, 2, 20, 20, 120, 3.21).reason
        == "the oldest of 120 due for 3.2s, 20 of 20 places are busy"
    )
    assert Sample(0, 2, 2, 1, 20, 0, 0.0).reason == "nothing waits, 1 of 20 places are busy"
