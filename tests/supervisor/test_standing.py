"""One line that says how the service stands."""

from __future__ import annotations

from docket_supervisor.standing import standing
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
