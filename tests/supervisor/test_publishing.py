"""What the supervisor puts on the bulletin, turn by turn."""

from __future__ import annotations

import os

from docket_supervisor.phases import Phase
from docket_supervisor.posts import Sitting
from docket_supervisor.publishing import Publisher
from docket_supervisor.settings import SupervisorSettings
from tests.supervisor.test_crew import Scene


def published(scene: Scene, publisher: Publisher, phase: Phase = Phase.RUNNING) -> None:
    publisher.publish(phase, 3, [11], [12])


def publisher(scene: Scene, min_ready: int | None = None) -> Publisher:
    return Publisher(scene.board.bulletin, SupervisorSettings(processes=2, min_ready=min_ready), scene.crew)


def test_the_service_is_described() -> None:
    scene = Scene().assembled()
    published(scene, publisher(scene))
    page = scene.board.bulletin
    assert (page.supervisor_pid, page.template_pid, page.steward_pid) == (os.getpid(), 11, 12)
    assert (page.phase, page.quiet, page.generation, page.wanted) == ("running", False, 3, 2)
    assert page.ticked_at >= page.started_at > 0


def test_quiet_is_said_twice_while_starting() -> None:
    scene = Scene().assembled()
    published(scene, publisher(scene), Phase.STARTING_QUIET)
    assert (scene.board.bulletin.phase, scene.board.bulletin.quiet) == ("starting", True)


def test_the_start_is_complete_once_every_slot_has_been_ready_though_never_all_at_a_time() -> None:
    scene = Scene().assembled()
    board, describe = scene.board.bulletin, publisher(scene)
    first, second = scene.crew.slots
    first.sitting = Sitting.READY
    published(scene, describe)
    assert not board.complete
    first.sitting, second.sitting = Sitting.RESTING, Sitting.READY
    published(scene, describe)
    assert board.complete
    second.sitting = Sitting.RESTING
    published(scene, describe)
    assert board.complete, "it stays so"
    assert [slot.state for slot in board.slots[:2]] == ["resting", "resting"]


def test_the_start_is_complete_with_as_many_as_are_asked_for() -> None:
    scene = Scene().assembled()
    scene.crew.slots[1].sitting = Sitting.READY
    published(scene, publisher(scene, min_ready=1))
    assert scene.board.bulletin.complete


def test_a_slot_names_the_seat_of_its_worker() -> None:
    scene = Scene().assembled()
    scene.crew.slots[1].pid = 4711
    published(scene, publisher(scene))
    assert [slot.seat for slot in scene.board.bulletin.slots[:3]] == [-1, 1, -1]
