"""An exit status that a task has chosen is no verdict on the service; one that a worker chose before it began is."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from docket_supervisor.deaths import Death
from docket_supervisor.phases import Event
from docket_supervisor.posts import Sitting
from docket_supervisor.restarts import LONGEST_DELAY
from tests.supervisor.service import Service, eventually, gone
from tests.supervisor.test_crew import LATER, Scene

Start = Callable[..., Service]
PID = 99_999_999


def scene_with(phase: str, **settings: int | bool) -> Scene:
    scene = Scene(**settings).assembled()
    scene.crew.hired(0, PID)
    scene.board.writer(0).phase(phase)
    scene.asked()
    return scene


@pytest.mark.parametrize("code", [2, 3])
@pytest.mark.parametrize("phase", ["working", "quiet", "draining"])
@pytest.mark.parametrize("watch", [False, True])
def test_the_exit_status_of_one_that_had_begun_is_a_death_like_any_other(
    code: int, phase: str, watch: bool
) -> None:
    scene = scene_with(phase, watch=watch)
    scene.board.writer(0).enlisted("host#1/abc")
    scene.board.writer(0).began(0, "d:1-0", "poison", "task", False)
    scene.crew.died(Death(PID, code << 8))
    assert scene.events == [] and scene.asked() == [0], "another one at once, for the death is explained"
    assert scene.orders == [("host#1/abc", f"worker process {PID} exited with status {code}", ["d:1-0"])]


@pytest.mark.parametrize("phase", ["", "starting"])
def test_that_of_one_that_had_not_is_a_verdict(phase: str) -> None:
    for code, event in ((2, Event.UNFIT), (3, Event.IMPORT_FAILED)):
        scene = scene_with(phase)
        scene.crew.died(Death(PID, code << 8))
        assert scene.events == [event]


def test_one_that_is_refused_while_others_serve_is_tried_again_within_the_budget_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = scene_with("starting", max_restarts=1)
    scene.crew.died(Death(PID, 2 << 8))
    scene.crew.tell()
    scene.crew.tell()
    said = "slot 0: its worker cannot begin with these settings; another one tries in 10s"
    assert caplog.text.count(said) == 1 and scene.asked() == []
    post = scene.crew.slots[0]
    before = post.rest_until
    scene.crew.turn(before - LONGEST_DELAY / 2, LATER)
    assert scene.asked() == []
    scene.crew.turn(before, LATER)
    assert scene.asked() == [0]
    scene.crew.hired(0, PID)
    scene.crew.died(Death(PID, 2 << 8))
    assert post.sitting is Sitting.GIVEN_UP


def test_when_the_service_ends_for_it_nobody_is_said_to_try_again(caplog: pytest.LogCaptureFixture) -> None:
    scene = scene_with("starting")
    scene.crew.died(Death(PID, 2 << 8))
    scene.crew.drain(0.0)
    scene.crew.tell()
    assert "cannot begin" not in caplog.text


@pytest.mark.parametrize("code", [0, 7])
def test_one_whose_task_has_left_for_it_is_counted_and_another_follows_at_once(code: int) -> None:
    scene = scene_with("working", max_restarts=0)
    scene.board.writer(0).began(0, "d:1-0", "poison", "task", False)
    scene.crew.died(Death(PID, code << 8))
    assert scene.asked() == [0] and scene.events == []
    assert scene.board.bulletin.deaths() == {f"exit-{code}": 1}


def test_the_death_of_a_relief_is_not_one_of_the_slot_that_it_was_to_take_over() -> None:
    scene = scene_with("working")
    relief = scene.crew.relieve(0, scene.hiring)
    assert relief
    scene.crew.hired(relief.number, PID - 1)
    scene.crew.died(Death(PID - 1, signal.SIGSEGV))
    assert scene.board.bulletin.slots[0].last_death is None
    assert scene.board.bulletin.deaths() == {"SIGSEGV": 1}
    scene.crew.died(Death(PID, signal.SIGKILL))
    last = scene.board.bulletin.slots[0].last_death
    assert last is not None and last.cause == "killed by SIGKILL"


@pytest.mark.parametrize("code", [0, 2, 7])
def test_a_service_outlives_a_task_that_exits_with_any_status(start: Start, code: int) -> None:
    service = start(processes=2, max_restarts=0)
    first, second = service.ready(2)
    service.obeyed(first, "begin poison")
    service.order(first, f"exit {code}")
    (order,) = eventually(lambda: service.events("handed over"))
    assert order["started"] == ["d:0-0"]

    def workers() -> set[int]:
        return {event["pid"] for event in service.events("ready") if not event["quarantine"]}

    eventually(lambda: workers() > {first, second}, "another worker")
    assert not gone(second)
    service.signal(signal.SIGTERM)
    assert service.ends() == 0


def test_a_replacement_that_is_refused_ends_nobody_else(start: Start, tmp_path: Path) -> None:
    service = start(processes=2)
    first, second = service.ready(2)
    (tmp_path / "at-start").write_text("exit 2")
    os.kill(first, signal.SIGKILL)
    service.logged("its worker cannot begin with these settings; another one tries in 10s")
    (tmp_path / "at-start").unlink()
    assert not gone(second) and service.ready(3)[2] not in (first, second)
    service.signal(signal.SIGTERM)
    assert service.ends() == 0
