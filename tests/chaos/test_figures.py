"""How soon all goes on is measured from the ledger, without the time in which nobody could work."""

from __future__ import annotations

from chaos.figures import Figures, measure
from chaos.incidents import ALL, Incident
from chaos.witness import RETURNED, Run


def run(began: float, ended: float = 0.0, pid: int = 1, key: str = "") -> Run:
    return Run(key or f"at {began}", "task", pid, 1, began, RETURNED if ended else "", ended)


def steady(until: float, *, silent: tuple[float, float] = (0, 0)) -> list[Run]:
    """Ten a second."""
    moments = [number / 10 for number in range(round(until * 10))]
    return [run(at, at + 0.01, pid=2) for at in moments if not silent[0] <= at < silent[1]]


def test_a_kill_counts_until_the_first_of_what_it_interrupted_runs_again() -> None:
    again = [run(4.9, key="a"), run(4.8, key="b"), run(5.2, 6, 3, "a"), run(5.7, 6, 3, "b")]
    runs = sorted(steady(10) + again, key=lambda each: each.began_at)
    figures = measure(runs, [Incident("kill", 1, 5.0)], 10)
    assert (figures.kills, figures.again_p50, figures.again_p99) == (1, 0.2, 0.2)
    assert figures.all_again_p99 == 0.7
    assert figures.back_p99 == 0 and figures.problems() == []


def test_what_takes_too_long_is_a_problem() -> None:
    runs = sorted(
        [*steady(10, silent=(5, 7)), run(4.9, key="a"), run(7.0, 8, 3, "a")], key=lambda r: r.began_at
    )
    figures = measure(runs, [Incident("kill", 1, 5.0)], 10)
    assert figures.again_p99 == 2.0 and 1.7 <= (figures.back_p99 or 0) <= 2.0
    assert len(figures.problems()) == 2


def test_time_without_redis_does_not_count() -> None:
    runs = sorted(
        [*steady(10, silent=(5, 7)), run(4.9, key="a"), run(7.0, 8, 3, "a")], key=lambda r: r.began_at
    )
    away = Incident("pause of Redis", ALL, 5.1, 6.9)
    figures = measure(runs, [Incident("kill", 1, 5.0), away], 10)
    assert figures.again_p99 == 0.2 and figures.problems() == []


def test_nothing_to_measure_is_nothing() -> None:
    assert measure([], [], 1) == Figures(0, None, None, None, None, 0.0)
