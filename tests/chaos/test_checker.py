"""The checker: it finds what is lost and what is doubled, and takes no explanation that explains nothing."""

from __future__ import annotations

import pytest

from chaos.checker import check, check_counters
from chaos.incidents import ALL, Incident
from chaos.witness import INTERRUPTED, RAISED, RETURNED, Run


def run(
    began: float, ended: float = 0.0, how: str = "", pid: int = 1, attempt: int = 1, key: str = "k"
) -> Run:
    return Run(key, "task", pid, attempt, began, how or (RETURNED if ended else ""), ended)


def kill(at: float, pid: int = 1, what: str = "kill", until: float = 0.0) -> Incident:
    return Incident(what, pid, at, until)


def test_what_ran_once_is_in_order() -> None:
    verdict = check(["k"], [run(1, 2)], [])
    assert verdict.clean and (verdict.scheduled, verdict.runs) == (1, 1) and not verdict.explained


@pytest.mark.parametrize("runs", [[], [run(1)], [run(1, 2, RAISED)], [run(1, 2, INTERRUPTED)]])
def test_what_never_came_to_its_end_is_lost(runs: list[Run]) -> None:
    verdict = check(["k"], runs, [])
    assert verdict.lost == ["k"] and not verdict.clean


def test_what_nobody_scheduled_is_found() -> None:
    assert check([], [run(1, 2)], []).unheard_of == ["k"]


EXPLAINED = {
    "killed while it ran": ([run(1), run(3, 4, pid=2)], [kill(2)], "kill"),
    "killed before its outcome was settled": ([run(1, 2), run(3, 4, pid=2)], [kill(2.5)], "kill"),
    "raised, and tried again": ([run(1, 2, RAISED), run(3, 4, attempt=2)], [], "retry"),
    "frozen while it ran": ([run(1, 9), run(5, 6, pid=2)], [kill(2, what="freeze", until=8)], "freeze"),
    "begun in a worker that was draining already": (
        [run(3, 4, INTERRUPTED), run(5, 6, pid=2)],
        [kill(1, ALL, "roll", until=10)],
        "roll",
    ),
    "interrupted by a drain": ([run(1, 3, INTERRUPTED), run(4, 5)], [kill(2, what="terminate")], "terminate"),
}


@pytest.mark.parametrize(("runs", "incidents", "cause"), EXPLAINED.values(), ids=EXPLAINED.keys())
def test_a_duplicate_is_explained_by_what_happened_to_its_process(
    runs: list[Run], incidents: list[Incident], cause: str
) -> None:
    verdict = check(["k"], runs, incidents)
    assert verdict.clean and verdict.explained == {cause: 1}


UNEXPLAINED = {
    "nothing happened": ([run(1, 2), run(3, 4)], []),
    "somebody else was killed": ([run(1, 2), run(3, 4)], [kill(1.5, pid=9)]),
    "killed before it began": ([run(2, 3), run(4, 5)], [kill(1)]),
    "killed long after it was settled": ([run(1, 2), run(60, 61, pid=2)], [kill(59)]),
    "the kill came after the other run had begun": ([run(1), run(3, 4, pid=2)], [kill(3.5)]),
    "what happened to it is harmless": ([run(1, 2), run(3, 4)], [kill(1.5, what="quiet")]),
    "raised, and run again as if it had not": ([run(1, 2, RAISED), run(3, 4, attempt=1)], []),
    "interrupted by nobody": ([run(1, 2, INTERRUPTED), run(3, 4)], []),
}


@pytest.mark.parametrize(("runs", "incidents"), UNEXPLAINED.values(), ids=UNEXPLAINED.keys())
def test_what_explains_nothing_is_not_taken(runs: list[Run], incidents: list[Incident]) -> None:
    verdict = check(["k"], runs, incidents)
    assert not verdict.clean and [each.run for each in verdict.unexplained] == [runs[0]]


def test_each_of_several_duplicates_needs_its_own_explanation() -> None:
    runs = [run(1), run(3, pid=2), run(5, 6, pid=3)]
    assert check(["k"], runs, [kill(2), kill(4, pid=2)]).explained == {"kill": 2}
    assert len(check(["k"], runs, [kill(2)]).unexplained) == 1


@pytest.mark.parametrize(
    ("counters", "deaths", "right"),
    [
        ({"started": 5, "succeeded": 3, "failed": 1}, 0, True),
        ({"started": 4, "succeeded": 3, "failed": 1}, 9, False),
        ({"started": 6, "succeeded": 3, "failed": 1}, 0, False),
        ({"started": 15, "succeeded": 3, "failed": 1}, 1, True),
        ({"started": 16, "succeeded": 3, "failed": 1}, 1, False),
        # One of the two runs of `b` was seen to end, and its worker died before it could count that.
        ({"started": 5, "succeeded": 2, "failed": 1}, 1, True),
        ({"started": 5, "succeeded": 1, "failed": 1}, 1, False),
        ({"started": 5, "succeeded": 4, "failed": 1}, 1, False),
        ({"started": 5, "succeeded": 3, "failed": 0}, 1, False),
        ({"started": 5, "succeeded": 3, "failed": 2}, 1, False),
        ({}, 0, False),
    ],
)
def test_counters_agree_with_the_witnesses(counters: dict[str, float], deaths: int, right: bool) -> None:
    retried = [run(1, 2, RAISED, key="a"), run(3, 4, attempt=2, key="a")]
    again = [run(5, 6, key="b"), run(7, 8, key="b", pid=2)]
    under_way = [run(9, key="c")]
    found = check_counters(counters, [*retried, *again, *under_way], deaths, places=10)
    assert (found == []) is right, found
