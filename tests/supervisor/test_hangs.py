"""The tables: what is done about a loop that does not turn, and about executions past their limits."""

from __future__ import annotations

import pytest

from docket_supervisor.board import InFlight, Limit
from docket_supervisor.hangs import (
    LAST_LOOK,
    TICK,
    TIMEOUT_GRACE,
    Ladder,
    Step,
    blockers,
    lateness,
    slow_reports,
    too_late,
)

R, S, D, E, L, K = (
    Step.REPORT,
    Step.STAND_DOWN,
    Step.DUMP,
    Step.EVACUATE,
    Step.LAST_LOOK,
    Step.KILL,
)


def execution(place: int, *, thread: bool = False, deadline: float | None = None) -> InFlight:
    limit = None if deadline is None else Limit(deadline, 1.0, "failed", 0)
    return InFlight(f"d:{place}-0", f"key-{place}", "task", 0.0, thread, place, limit)


@pytest.mark.parametrize(
    ("hang_timeout", "late", "steps"),
    [
        (60, 0.0, ()),
        (60, 1.9, ()),
        (60, 2.0, (R,)),
        (60, 3.0, (R, S)),
        (60, 4.0, (R, S, D)),
        (60, 5.0, (R, S, D, E)),
        (60, 59.9, (R, S, D, E)),
        (60, 60.0, (R, S, D, E, L)),
        (60, 60.0 + LAST_LOOK, (R, S, D, E, L, K)),
        (3, 0.24, ()),
        (3, 0.25, (R,)),
        (3, 0.75, (R, S, D, E)),
        (3, 2.9, (R, S, D, E)),
        (3, 3.0 + LAST_LOOK, (R, S, D, E, L, K)),
        (0, 5.0, (R, S, D, E)),
        (0, 1e9, (R, S, D, E)),
    ],
)
def test_each_step_has_its_time_and_zero_means_that_nobody_is_killed(
    hang_timeout: float, late: float, steps: tuple[Step, ...]
) -> None:
    assert Ladder.of(hang_timeout).due(late, 0) == steps


@pytest.mark.parametrize("hang_timeout", [0, 0.5, 1, 3, 10, 60, 3600])
def test_the_steps_come_in_their_order(hang_timeout: float) -> None:
    ladder = Ladder.of(hang_timeout)
    assert [step for _, step in ladder.steps] == [R, S, D, E, L, K][: len(ladder.steps)]
    times = [after for after, _ in ladder.steps]
    assert times == sorted(times)


def test_no_step_is_taken_twice() -> None:
    assert Ladder.of(60).due(4.5, taken=2) == (D,)
    assert Ladder.of(60).due(4.5, taken=3) == ()


@pytest.mark.parametrize(
    ("now", "ticked_at", "watched_since", "late"),
    [
        (100.0, 99.9, 0.0, 0.1 - TICK),
        (100.0, 90.0, 0.0, 10 - TICK),
        (100.0, 0.0, 98.0, 2 - TICK),
        (100.0, 50.0, 99.0, 1 - TICK),
    ],
    ids=["it turns", "it does not", "never yet", "we were asleep"],
)
def test_a_loop_is_late_by_what_we_have_seen_of_it(
    now: float, ticked_at: float, watched_since: float, late: float
) -> None:
    assert lateness(now, ticked_at, watched_since) == pytest.approx(late)


def test_only_who_was_told_and_cannot_be_ended_is_too_late() -> None:
    told = 100.0 - TIMEOUT_GRACE
    running = [
        execution(0, thread=True, deadline=told),
        execution(1, thread=True, deadline=told + 0.1),
        execution(2, thread=True),
        execution(3, deadline=told),
        execution(4, deadline=told),
    ]
    assert [each.place for each in too_late(running, 100.0)] == [0]
    assert [each.place for each in too_late(running, 100.0, blocking=4)] == [0, 4]


@pytest.mark.parametrize(
    ("place", "blamed"),
    [(1, [1]), (None, [2, 3]), (2, [2, 3]), (9, [2, 3])],
    ids=["it is on the loop", "nothing is", "its place runs in a thread", "it has ended"],
)
def test_the_one_on_the_loop_is_blamed_else_those_in_threads(place: int | None, blamed: list[int]) -> None:
    running = [execution(0), execution(1), execution(2, thread=True), execution(3, thread=True)]
    assert [each.place for each in blockers(running, place)] == blamed


def test_when_nothing_is_shown_and_no_thread_runs_all_are_suspect() -> None:
    assert [each.place for each in blockers([execution(0), execution(1)], None)] == [0, 1]
    assert blockers([], None) == []


@pytest.mark.parametrize(
    ("age", "limit", "reports"),
    [(4.9, 5, 0), (5, 5, 1), (9.9, 5, 1), (10, 5, 2), (20, 5, 3), (1e6, 0, 0)],
)
def test_slowness_is_reported_at_the_limit_and_at_each_doubling(
    age: float, limit: float, reports: int
) -> None:
    assert slow_reports(age, limit) == reports
