"""The checker: it finds what is lost and what is doubled, and takes no explanation that explains nothing."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from chaos.checker import Verdict, check_counters
from chaos.checker import check as check_all
from chaos.incidents import ALL, Incident, Incidents, working_time
from chaos.load import Asked
from chaos.witness import INTERRUPTED, RAISED, RETURNED, Run


def check(keys: list[str], runs: list[Run], incidents: Iterable[Incident]) -> Verdict:
    return check_all([Asked(key, "task") for key in keys], runs, incidents)


def run(
    began: float,
    ended: float = 0.0,
    how: str = "",
    pid: int = 1,
    attempt: int = 1,
    key: str = "k",
    task: str = "task",
    version: int = 0,
    due: float = 0.0,
) -> Run:
    return Run(key, task, pid, attempt, began, how or (RETURNED if ended else ""), ended, version, due)


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
    "settled too late, since Redis was away": (
        [run(1, 2), run(9, 10, pid=2)],
        [kill(1.9, ALL, "pause of Redis", until=6), kill(6.5)],
        "kill",
    ),
    "settled too late, since its loop was blocked": (
        [run(1, 2), run(1.5, 7, key="b", task="block"), run(9, 10, pid=2)],
        [kill(7.5)],
        "kill",
    ),
    "killed while its loop was blocked": (
        [run(1, 2), run(1.5, key="b", task="block"), run(5, 6, pid=2), run(5, 6, pid=2, key="b")],
        [kill(4)],
        "kill",
    ),
    "ended in a worker that had to leave while Redis was away": (
        [run(1, 3), run(9, 10, pid=2)],
        [kill(2, what="terminate", until=10), kill(2.5, ALL, "pause of Redis", until=9)],
        "terminate",
    ),
    "beside poison": ([run(1), run(2, key="p", task="poison"), run(3, 4, pid=2)], [], "poison"),
    "what was done to it, not what was done to all": (
        [run(1), run(3, 4, pid=2)],
        [kill(2), kill(2.5, ALL, "roll", until=9)],
        "kill",
    ),
    "interrupted by a drain": ([run(1, 3, INTERRUPTED), run(4, 5)], [kill(2, what="terminate")], "terminate"),
}


@pytest.mark.parametrize(("runs", "incidents", "cause"), EXPLAINED.values(), ids=EXPLAINED.keys())
def test_a_duplicate_is_explained_by_what_happened_to_its_process(
    runs: list[Run], incidents: list[Incident], cause: str
) -> None:
    verdict = check(sorted({each.key for each in runs}), runs, incidents)
    assert set(verdict.explained) == {cause} and not verdict.unexplained
    duplicate = verdict.duplicates[0]
    assert duplicate.run is runs[0] and verdict.as_json()["duplicates"][0]["cause"] == cause


UNEXPLAINED = {
    "nothing happened": ([run(1, 2), run(3, 4)], []),
    "somebody else was killed": ([run(1, 2), run(3, 4)], [kill(1.5, pid=9)]),
    "killed before it began": ([run(2, 3), run(4, 5)], [kill(1)]),
    "killed long after it was settled": ([run(1, 2), run(60, 61, pid=2)], [kill(59)]),
    "the kill came after the other run had begun": ([run(1), run(3, 4, pid=2)], [kill(3.5)]),
    "what happened to it is harmless": ([run(1, 2), run(3, 4)], [kill(1.5, what="quiet")]),
    "raised, and run again as if it had not": ([run(1, 2, RAISED), run(3, 4, attempt=1)], []),
    "settled by a worker that drains": (
        [run(1, 2), run(5, 6, pid=2)],
        [kill(1.5, what="terminate", until=9)],
    ),
    "Redis was away, and nobody died": (
        [run(1, 2), run(5, 6, pid=2)],
        [kill(1.5, ALL, "pause of Redis", until=4)],
    ),
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


def test_the_last_acknowledged_version_must_run_or_a_later_one() -> None:
    asked = [Asked("k", "newest", 1), Asked("k", "newest", 2), Asked("k", "newest", 3, acknowledged=False)]
    assert check_all(asked, [run(1, 2, version=1)], []).lost == ["k"]
    assert check_all(asked, [run(1, 2, version=2)], []).clean
    assert check_all(asked, [run(1, 2, version=3)], []).clean


def test_what_redis_never_acknowledged_may_have_run_or_not() -> None:
    asked = [Asked("k", "task", acknowledged=False)]
    assert check_all(asked, [], []).clean and check_all(asked, [run(1, 2)], []).clean


def test_generations_run_in_their_order_and_never_at_once() -> None:
    asked = [Asked("k", "newest", version) for version in (1, 2)]
    one, two = run(1, 2, version=1), run(3, 4, version=2)
    assert check_all(asked, [one, two], []).clean
    assert check_all(asked, [run(1, 2, version=2), run(3, 4, version=1)], []).out_of_order
    overlapping = [run(1, 5, version=1), two]
    assert "was running" in check_all(asked, overlapping, []).out_of_order[0]
    # Whoever was frozen beyond its lease runs nothing that counts.
    assert check_all(asked, overlapping, [kill(2, what="freeze", until=20)]).out_of_order == []
    assert check_all(asked, overlapping, [kill(2, what="freeze", until=7)]).out_of_order
    assert check_all(asked, [run(1, version=1), two], [kill(2)]).out_of_order == []
    assert check_all(asked, [run(1, version=1), two], []).out_of_order


def limited(*spans: tuple[float, float]) -> list[Run]:
    return [run(*span, key=f"k{number}", pid=number + 1) for number, span in enumerate(spans)]


def test_limits_are_judged_by_what_overlapped() -> None:
    asked = [Asked(f"k{number}", "task") for number in range(5)]

    def exceeded(runs: list[Run], *incidents: Incident) -> list[str]:
        return check_all(asked, runs, incidents, limits={"task": 2}).limits_exceeded

    assert not exceeded(limited((1, 3), (2, 4), (3, 5), (4, 6)))
    (sentence,) = exceeded(limited((1, 3), (2, 4), (2.5, 5)))
    assert sentence == "3 of task at 2.500, at most 2 may run: k0, k1, k2"
    assert not exceeded(limited((1, 0), (1, 4), (2.5, 5)), kill(2))
    assert exceeded(limited((1, 0), (1, 4), (2.5, 5)), kill(2, pid=9))
    assert not check_all(asked, limited((1, 3), (2, 4), (2.5, 5)), [], limits={"other": 2}).limits_exceeded


def test_nothing_may_begin_before_it_is_due() -> None:
    assert check(["k"], [run(1, 2, due=1.01)], []).early == []
    assert check(["k"], [run(1, 2, due=1.5)], []).early == ["k began 0.500s before it was due"]


def test_what_a_frozen_worker_ran_must_be_given_to_others_when_its_lease_is_over() -> None:
    freeze = kill(10, what="freeze", until=24)  # frozen for 9 s, and 5 more in which it may do harm
    kept = [run(5, 21)]
    assert check(["k"], [*kept, run(16, 17, pid=2)], [freeze]).kept == []
    for others in ([], [run(18.5, 19, pid=2)], [run(16, 17, pid=2, key="other")]):
        (sentence,) = check(["k"], [*kept, *others], [freeze]).kept
        assert sentence == "process 1 was frozen, and nobody else began k by 18.000"
    # It began or ended while its process was not frozen, or that was not for long; or nobody could have done it.
    assert check(["k"], [run(10.1, 21)], [freeze]).kept == []
    assert check(["k"], [run(5, 18.9)], [freeze]).kept == []
    assert check(["k"], kept, [kill(10, what="freeze", until=20)]).kept == []
    assert check_all([Asked("k", "task")], kept, [freeze], limits={"task": 1}).kept == []
    assert check(["k"], kept, [freeze, kill(12, ALL, "pause of Redis", 14)]).kept == []


def test_poison_is_begun_a_few_times_and_becomes_a_dead_letter() -> None:
    asked = [Asked("p", "poison")]
    runs = [run(1, key="p", task="poison"), run(2, key="p", task="poison", pid=2)]
    assert check_all(asked, runs, [], dead=["p"], max_crashes=2).clean
    assert "begun 2 times" in check_all(asked, runs, [], dead=["p"], max_crashes=1).survived[0]
    assert "no dead letter" in check_all(asked, runs, [], max_crashes=2).survived[0]


def test_time_without_redis_is_no_working_time() -> None:
    incidents = Incidents([kill(2, ALL, "pause of Redis", 4), kill(3, ALL, "Redis is full", 5), kill(6)])
    assert working_time(0, 10, incidents) == 7
    assert working_time(3.5, 4.5, incidents) == 0
    assert working_time(5, 9, incidents) == 4


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
