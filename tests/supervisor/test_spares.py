"""A spare waits for a slot; who is to blame when a worker is replaced or killed; what is written down of deaths."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from datetime import timedelta

import pytest

from docket import clock
from docket_supervisor.board import Board, Seat
from docket_supervisor.crew import SPARE_AFTER
from docket_supervisor.deaths import Death
from docket_supervisor.lifeline import Lifeline
from docket_supervisor.parking import parked
from docket_supervisor.posts import Post, Role, Sentence, Sitting
from tests.supervisor.test_crew import Scene, processes

__all__ = ["processes"]

Processes = list["subprocess.Popen[bytes]"]
TIMEOUT = Sentence("timeout", "it did not end")
GRACE = timedelta(seconds=10)


def complete(*pids: int) -> Scene:
    """Both slots are filled by workers that are ready."""
    scene = Scene().assembled()
    for number, pid in enumerate(pids):
        scene.crew.hired(number, pid)
        scene.board.writer(number).phase("working")
    scene.crew.look()
    scene.asked()
    return scene


def with_spare(scene: Scene, pid: int, *, ready: bool = True) -> Post:
    """As time passes: first it is seen that all are ready, then the spare is asked for."""
    scene.crew.turn(1e6, 0.0)
    scene.crew.turn(1e6 + SPARE_AFTER, 0.0)
    (number,) = scene.asked()
    scene.crew.hired(number, pid)
    if ready:
        scene.board.writer(number).phase("parked")
        scene.crew.look()
    post = scene.crew.posts[number]
    assert post.role is Role.SPARE and post.slot < 0
    return post


def test_there_is_one_when_all_slots_are_ready_and_not_before() -> None:
    scene = Scene().assembled()
    scene.asked()
    scene.crew.hired(0, 99_999_999)
    scene.board.writer(0).phase("working")
    scene.crew.look()
    for now in (1e6, 2e6):
        scene.crew.turn(now, now)
    assert scene.asked() == []
    scene = complete(99_999_999, 99_999_998)
    with_spare(scene, 99_999_997)
    scene.crew.turn(2e6, 0.0)
    assert scene.asked() == [], "one is enough"


def test_the_seat_of_the_surge_is_left_to_reliefs() -> None:
    scene = complete(99_999_999, 99_999_998)
    with_spare(scene, 99_999_997)
    assert scene.crew.relieve(1, scene.hiring) is not None


def test_it_takes_over_the_slot_of_a_worker_that_must_be_replaced(processes: Processes) -> None:
    late, parking = processes
    scene = complete(99_999_999, late.pid)
    spare = with_spare(scene, parking.pid)
    tainted = scene.crew.slots[1]
    scene.crew.replace(tainted, TIMEOUT, GRACE)
    assert scene.crew.slots[1] is spare and spare.role is Role.WORKER and spare.seat.assigned == 1
    assert (tainted.role, late.wait(5)) == (Role.RETIRING, -signal.SIGTERM)
    assert 9 < (tainted.seat.drain_at or 0) - clock.monotonic() <= 10
    assert spare.sitting is Sitting.BOOTING, "until it can claim"
    assert scene.asked() == []


def test_without_a_spare_another_worker_is_asked_for_at_once(processes: Processes) -> None:
    scene = complete(99_999_999, processes[0].pid)
    scene.crew.replace(scene.crew.slots[1], TIMEOUT, GRACE)
    (number,) = scene.asked()
    assert scene.crew.slots[1].number == number != 1


def test_one_whose_spare_is_not_ready_does_not_wait_for_it(processes: Processes) -> None:
    scene = complete(99_999_999, processes[0].pid)
    spare = with_spare(scene, 99_999_997, ready=False)
    scene.crew.replace(scene.crew.slots[1], TIMEOUT, GRACE)
    assert scene.crew.slots[1] is not spare and len(scene.asked()) == 1


def test_in_quarantine_nobody_is_waited_for(processes: Processes) -> None:
    scene = complete(99_999_999, 99_999_998)
    scene.crew.suspects(1)
    (number,) = scene.asked()
    scene.crew.hired(number, processes[0].pid)
    scene.crew.replace(scene.crew.posts[number], TIMEOUT, GRACE)
    assert processes[0].wait(5) == -signal.SIGKILL


def test_while_the_service_leaves_nobody_takes_over_and_the_deadline_only_comes_nearer(
    processes: Processes,
) -> None:
    scene = complete(99_999_999, processes[0].pid)
    scene.crew.drain(5.0)
    scene.crew.replace(scene.crew.slots[1], TIMEOUT, timedelta(days=1))
    assert scene.asked() == [] and scene.board.seats[1].drain_at == 5.0


def test_one_of_another_generation_is_dismissed(processes: Processes) -> None:
    scene = complete(99_999_999, 99_999_998)
    spare = with_spare(scene, processes[0].pid)
    newer = type(scene.hiring)()
    scene.crew.hire_from(newer)
    scene.crew.turn(2e6, 0.0)
    assert processes[0].wait(5) == -signal.SIGTERM and spare.role is Role.RETIRING
    scene.crew.died(Death(processes[0].pid, signal.SIGTERM))
    scene.crew.turn(3e6, 0.0)
    assert len(newer.asked) == 1


def test_a_spare_that_dies_ends_no_service_and_is_not_replaced_at_once() -> None:
    scene = complete(99_999_999, 99_999_998)
    spare = with_spare(scene, 99_999_997)
    scene.crew.died(Death(99_999_997, 3 << 8))
    assert spare.role is Role.FREE and [event.name for event in scene.events if event.name != "READY"] == []
    scene.crew.turn(clock.monotonic(), 0.0)
    assert scene.asked() == []


def test_what_was_late_is_handed_over_as_such_and_the_neighbours_as_innocent(processes: Processes) -> None:
    scene = complete(99_999_999, processes[0].pid)
    writer = scene.board.writer(1)
    writer.enlisted("host#1/abc")
    writer.began(0, "d:1-0", "late", "task", True)
    writer.limited(0, clock.monotonic() - 5, 1.5, "retry", 250_000)
    writer.began(1, "d:2-0", "neighbour", "task", True)
    scene.crew.replace(scene.crew.slots[1], TIMEOUT, GRACE)
    processes[0].wait(5)
    writer.phase("left")
    scene.crew.died(Death(processes[0].pid, 7 << 8))
    ((name, cause, started),) = scene.orders
    assert (name, started) == ("host#1/abc", []) and cause.endswith("exited with status 7 (it did not end)")
    assert scene.late == [("d:1-0", "retry", 250_000, 1.5)]
    assert scene.board.bulletin.deaths() == {"timeout": 1}
    last = scene.board.bulletin.slots[1].last_death
    assert last is not None and last.cause == "exited with status 7 (it did not end)"


def test_whom_the_hang_is_blamed_on_is_suspect_and_nobody_else(processes: Processes) -> None:
    scene = complete(99_999_999, processes[0].pid)
    writer = scene.board.writer(1)
    writer.enlisted("host#1/abc")
    writer.began(0, "d:1-0", "blocker", "task", False)
    writer.began(1, "d:2-0", "neighbour", "task", False)
    scene.crew.condemn(scene.crew.slots[1], Sentence("hang", "it hung", ("d:1-0",)))
    processes[0].wait(5)
    scene.crew.died(Death(processes[0].pid, signal.SIGKILL))
    assert [order[2] for order in scene.orders] == [["d:1-0"]] and scene.late == []
    assert scene.board.bulletin.deaths() == {"hang": 1}
    assert scene.asked() == [1], "at once, for an execution is held to account for it"


@pytest.mark.parametrize("status", [0, 7 << 8])
def test_leaving_as_one_was_told_is_no_death(status: int) -> None:
    scene = complete(99_999_999, 99_999_998)
    scene.board.writer(1).phase("left")
    scene.crew.died(Death(99_999_998, status))
    assert scene.board.bulletin.deaths() == {}


class TestParking:
    """The process that waits, here a thread of the test's own process would not do: signals go to the main one."""

    def parked(self, then: int | None, act: str) -> str:
        """What a child says that is parked while `act` happens to it."""
        board, lifeline = Board(1, 1), Lifeline()
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                lifeline.close()
                os.write(writer, b"parking;")
                os.write(writer, repr(parked(board.seats[0], lifeline)).encode())
            finally:
                os._exit(0)
        os.close(writer)
        said = os.read(reader, 8).decode()
        time.sleep(0.05)
        if then is not None:
            board.seats[0].assigned = then
        if act == "lifeline":
            lifeline.close()
        else:
            os.kill(pid, signal.Signals[act])
        alarm = threading.Timer(5.0, os.kill, (pid, signal.SIGKILL))
        alarm.start()
        os.waitpid(pid, 0)
        alarm.cancel()
        said += os.read(reader, 100).decode()
        os.close(reader)
        return said.removeprefix("parking;")

    def test_it_wakes_for_its_slot(self) -> None:
        assert self.parked(3, "SIGCONT") == "3"

    def test_it_leaves_when_it_is_told_to(self) -> None:
        assert self.parked(None, "SIGTERM") == "None"

    def test_it_leaves_when_it_is_told_so_right_behind_its_slot(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def assigned(seat: Seat) -> int:
            os.kill(os.getpid(), signal.SIGTERM)
            return 3

        monkeypatch.setattr(Seat, "assigned", property(assigned))
        assert self.parked(None, "SIGCONT") == "None"

    def test_it_leaves_with_its_supervisor(self) -> None:
        assert self.parked(None, "lifeline") == "None"
