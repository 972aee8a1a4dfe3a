"""One line that says how the service stands."""

from __future__ import annotations

import pytest

from docket import clock
from docket_supervisor.standing import PATIENCE, figures_of_now, standing
from tests.supervisor.test_crew import Scene


def test_it_says_who_is_there_and_what_waits() -> None:
    scene = Scene().assembled()
    bulletin = scene.board.bulletin
    assert (
        standing(scene.crew, bulletin) == "0 of 2 workers ready, busy 0+0/20, nothing known of the queue yet"
    )
    bulletin.measured(due=0, scheduled=4, waiting=0, dead=0, latency=0.0)
    assert standing(scene.crew, bulletin).endswith(", 0 due, 4 scheduled")
    bulletin.measured(due=7, scheduled=4, waiting=0, dead=0, latency=2.31)
    assert standing(scene.crew, bulletin).endswith(", 7 due (oldest for 2.3s), 4 scheduled")
    bulletin.reachable = False
    assert standing(scene.crew, bulletin).endswith(", Redis is away")


def test_old_figures_are_measured_anew_for_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    bulletin = Scene().board.bulletin
    now, asked = 1000.0, list[float]()
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    bulletin.reachable = True
    bulletin.measured(due=1, scheduled=0, waiting=0, dead=0, latency=0.0)
    now = 1000.2
    assert figures_of_now(bulletin, lambda: asked.append(now))() == "" and asked == []
    now = 1003.0
    there = figures_of_now(bulletin, lambda: asked.append(now))
    assert there() is None and asked == [1003.0]
    bulletin.measured(due=2, scheduled=0, waiting=0, dead=0, latency=0.0)
    assert there() == "" and asked == [1003.0]


def test_nobody_waits_long_for_figures_nor_at_all_without_a_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    bulletin = Scene().board.bulletin
    now = 1000.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    bulletin.reachable = True
    there = figures_of_now(bulletin, lambda: None)
    assert there() is None
    now += PATIENCE + 0.01
    assert there() == ""
    bulletin.reachable = False
    assert figures_of_now(bulletin, lambda: None)() == ""
