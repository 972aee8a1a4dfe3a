"""Who sits in which seat, in the moments that real processes seldom show."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from docket_supervisor.board import Board
from docket_supervisor.channel import Notices
from docket_supervisor.child import Inheritance
from docket_supervisor.crew import Crew
from docket_supervisor.deaths import Death
from docket_supervisor.lifeline import Lifeline
from docket_supervisor.messages import Late
from docket_supervisor.phases import Event
from docket_supervisor.posts import Post
from docket_supervisor.settings import SPARES, SupervisorSettings
from docket_supervisor.spool import Spool

LATER = 1e9
"""A moment at which every pause is over; the crew wakes up for other reasons in between."""


class Hiring:
    """Writes down who is asked for; the test answers."""

    generation = 1
    outstanding = True
    keeps_code = True
    imported = True
    failure = ""
    settled = True
    bequest = None

    def __init__(self) -> None:
        self.asked: list[int] = []

    def start(self) -> None: ...
    def cancel(self, seat: int) -> None: ...
    def adopt(self, bequest: tuple[int, int]) -> None: ...

    def hire(self, seat: int, *, slot: int, quarantine: bool) -> None:
        self.asked.append(seat)

    def turn(self, now: float) -> float:
        return math.inf

    def died(self, death: Death) -> bool:
        return False

    def pids(self) -> list[int]:
        return []

    def dismiss(self) -> None: ...


class Scene:
    def __init__(self, **settings: Any) -> None:
        processes = settings.get("processes", 2)
        self.settings = SupervisorSettings(**{"processes": 2, "max_processes": processes, **settings})
        self.board = Board(self.settings.seats, 10)
        self.orders: list[tuple[str, str, list[str]]] = []
        self.late: list[Late] = []
        self.counts: list[int] = []
        self.events: list[Event] = []
        self.hiring = Hiring()
        inherited = Inheritance(self.settings, self.board, Lifeline(), Notices(), Spool(self.settings.seats))
        self.crew = Crew(
            inherited,
            self._hand_over,
            lambda: self.counts.append(1),
            self.events.append,
        )

    def _hand_over(self, name: str, cause: str, started: list[str], late: list[Late]) -> None:
        self.orders.append((name, cause, started))
        self.late += late

    def assembled(self) -> Scene:
        self.crew.assemble(self.hiring)
        return self

    def asked(self) -> list[int]:
        """Since the last time."""
        asked, self.hiring.asked = self.hiring.asked, []
        return asked


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) for _ in range(2)]
    yield started
    for process in started:
        process.kill()
        process.wait()


def test_every_slot_is_filled_and_no_quarantine_seat() -> None:
    assert Scene().assembled().asked() == [0, 1]


def test_suspects_fill_as_many_seats_as_there_are_slots_and_no_more() -> None:
    scene = Scene(processes=3).assembled()
    scene.asked()
    scene.crew.suspects(2)
    assert scene.asked() == [3, 4]
    scene.crew.suspects(2)
    assert scene.asked() == []
    scene.crew.suspects(7)
    assert scene.asked() == [5]


def test_one_that_comes_after_a_drain_has_begun_is_turned_away(
    processes: list[subprocess.Popen[bytes]],
) -> None:
    scene = Scene().assembled()
    scene.crew.drain(5.0)
    scene.crew.hired(0, processes[0].pid)
    assert processes[0].wait(5) == -signal.SIGKILL
    assert scene.crew.empty and scene.board.seats[0].pid == 0
    assert processes[1].poll() is None


def test_a_death_that_is_seen_before_the_pid_is_told_is_not_missed() -> None:
    scene = Scene(max_restarts=0).assembled()
    assert not scene.crew.died(Death(99_999_999, 9))
    scene.crew.hired(0, 99_999_999)
    assert scene.crew.empty
    assert scene.events == []
    scene.crew.hired(1, 99_999_998)
    assert scene.crew.died(Death(99_999_998, 9))
    assert scene.events == [Event.GAVE_UP]


def test_a_stranger_is_never_taken_for_a_worker() -> None:
    scene = Scene().assembled()
    scene.hiring.outstanding = False
    scene.crew.hired(0, 99_999_999)
    assert not scene.crew.died(Death(99_999_998, 9))
    assert scene.crew.pids() == [99_999_999]


def test_what_was_running_is_ordered_to_be_handed_over_with_the_cause() -> None:
    scene = Scene().assembled()
    scene.crew.hired(1, 99_999_999)
    writer = scene.board.writer(1)
    writer.enlisted("host#1/abc")
    writer.began(3, "d:1-0", "key", "task", False)
    assert scene.crew.died(Death(99_999_999, signal.SIGSEGV))
    assert scene.orders == [("host#1/abc", "worker process 99999999 killed by SIGSEGV", ["d:1-0"])]


def test_nothing_of_a_dead_worker_stays_on_the_board() -> None:
    """Else it is one that runs something, or should have left long ago, to whoever reads it."""
    scene = Scene().assembled()
    scene.crew.hired(1, 99_999_999)
    writer, seat = scene.board.writer(1), scene.board.seats[1]
    writer.enlisted("host#1/abc")
    writer.began(3, "d:1-0", "key", "task", False)
    seat.evacuating = seat.overdue = True
    scene.crew.retire(scene.crew.slots[1])
    assert seat.drain_at
    assert scene.crew.died(Death(99_999_999, signal.SIGKILL))
    assert (seat.pid, seat.drain_at, seat.worker_id) == (0, None, "") and not seat.inflight
    assert not seat.evacuating and not seat.overdue


@pytest.mark.parametrize("code", [0, 7])
def test_what_a_retiring_worker_hands_back_as_all_leave_is_handed_back(code: int) -> None:
    scene = Scene().assembled()
    scene.crew.hired(1, 99_999_999)
    scene.crew.retire(scene.crew.slots[1])
    scene.crew.drain(5.0)
    scene.crew.died(Death(99_999_999, code << 8))
    assert scene.crew.handed_back is (code == 7)


@pytest.mark.parametrize("code", [0, 7])
def test_one_that_left_as_it_was_told_is_not_a_crash_of_what_it_ran(code: int) -> None:
    scene = Scene().assembled()
    scene.crew.hired(1, 99_999_999)
    writer = scene.board.writer(1)
    writer.enlisted("host#1/abc")
    writer.began(0, "d:1-0", "key", "task", True)
    writer.phase("left")
    scene.crew.died(Death(99_999_999, code << 8))
    assert scene.orders == [("host#1/abc", f"worker process 99999999 exited with status {code}", [])]


def test_a_worker_that_had_left_is_not_handed_over() -> None:
    scene = Scene().assembled()
    scene.crew.hired(1, 99_999_999)
    writer = scene.board.writer(1)
    writer.enlisted("host#1/abc")
    writer.enlisted("")
    scene.crew.died(Death(99_999_999, 0))
    assert scene.orders == []


def test_a_seat_that_cannot_be_filled_is_tried_again_after_a_pause() -> None:
    scene = Scene().assembled()
    scene.asked()
    scene.crew.hired(0, 0)
    assert scene.asked() == []
    wake_at = scene.crew.turn(0.0, 0.0)
    assert 0 < wake_at < math.inf
    scene.crew.turn(LATER, 0.0)
    assert scene.asked() == [0]


def test_a_quarantine_process_that_found_nothing_is_not_followed_by_another_at_once() -> None:
    scene = Scene().assembled()
    scene.crew.suspects(1)
    scene.crew.hired(2, 99_999_999)
    scene.crew.died(Death(99_999_999, 0))
    assert scene.counts == []
    scene.crew.suspects(1)
    scene.crew.hired(2, 99_999_998)
    scene.board.writer(2).started("task", False, 0.0)
    scene.crew.died(Death(99_999_998, 0))
    assert scene.counts == [1]


def test_the_deadline_only_ever_comes_nearer(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        assert psutil.pid_exists(process.pid)
    scene = Scene().assembled()
    scene.crew.hired(0, processes[0].pid)
    for deadline, seen in ((30.0, 30.0), (5.0, 5.0), (20.0, 5.0)):
        scene.crew.drain(deadline)
        assert scene.board.seats[0].drain_at == seen
    assert processes[0].wait(5) == -signal.SIGTERM


class TestHandingOn:
    """A slot goes from one worker to another."""

    def assembled(self, *pids: int) -> Scene:
        scene = Scene().assembled()
        scene.asked()
        for number, pid in enumerate(pids):
            scene.crew.hired(number, pid)
        return scene

    def relieved(self, scene: Scene, pid: int) -> Post:
        relief = scene.crew.relieve(1, scene.hiring)
        assert relief and scene.asked() == [relief.number]
        scene.crew.hired(relief.number, pid)
        return relief

    def test_a_relief_gets_a_seat_of_its_own_and_the_old_worker_stays(
        self, processes: list[subprocess.Popen[bytes]]
    ) -> None:
        scene = self.assembled(99_999_999, processes[0].pid)
        relief = self.relieved(scene, 99_999_998)
        assert relief.number == 4 and scene.crew.slots[1].pid == processes[0].pid
        assert scene.board.seats[1].drain_at is None

    def test_there_is_one_at_a_time(self, processes: list[subprocess.Popen[bytes]]) -> None:
        scene = self.assembled(99_999_999, processes[0].pid)
        self.relieved(scene, 99_999_998)
        assert scene.crew.relieve(0, scene.hiring) is None

    def test_the_old_worker_drains_when_the_slot_is_handed_on_and_its_seat_is_free_when_it_left(
        self, processes: list[subprocess.Popen[bytes]]
    ) -> None:
        scene = self.assembled(99_999_999, processes[0].pid)
        relief = self.relieved(scene, 99_999_998)
        scene.crew.hand_on(relief)
        assert scene.crew.slots[1] is relief
        assert processes[0].wait(5) == -signal.SIGTERM and scene.board.seats[1].drain_at
        assert scene.crew.died(Death(processes[0].pid, signal.SIGTERM))
        assert scene.asked() == [] and scene.events == []
        another = scene.crew.relieve(0, scene.hiring)
        assert another and another.number == 1 and another.title == "worker [0] 0"

    def test_the_relief_is_restarted_like_anybody_once_it_stands_for_the_slot(
        self, processes: list[subprocess.Popen[bytes]]
    ) -> None:
        scene = self.assembled(99_999_999, processes[0].pid)
        relief = self.relieved(scene, 99_999_998)
        scene.crew.hand_on(relief)
        assert scene.crew.died(Death(99_999_998, signal.SIGKILL))
        assert scene.asked() == [4] and scene.crew.slots[1] is relief

    def test_a_relief_that_dies_is_told_of_and_not_restarted(self) -> None:
        scene = self.assembled(99_999_999, 99_999_997)
        told: list[tuple[int, str]] = []
        scene.crew.relief_failed = lambda post, cause: told.append((post.number, cause))
        relief = self.relieved(scene, 99_999_998)
        assert scene.crew.died(Death(99_999_998, 3 << 8))
        assert told == [(relief.number, "exited with status 3")]
        assert scene.asked() == [] and scene.events == []
        assert scene.crew.slots[1].pid == 99_999_997

    def test_one_that_outlives_its_grace_is_killed_and_blamed_on_nobody(
        self, processes: list[subprocess.Popen[bytes]]
    ) -> None:
        deaf = subprocess.Popen(
            [
                *(sys.executable, "-c"),
                "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)",
            ],
            stdout=subprocess.PIPE,
        )
        assert deaf.stdout and deaf.stdout.readline()
        scene = self.assembled(99_999_999, deaf.pid)
        writer = scene.board.writer(1)
        writer.enlisted("host#1/abc")
        writer.began(0, "d:1-0", "key", "task", True)
        scene.crew.retire(scene.crew.slots[1])
        wake_at = scene.crew.turn(0.0, math.inf)
        assert wake_at < math.inf and deaf.poll() is None
        scene.crew.turn(LATER, math.inf)
        assert deaf.wait(5) == -signal.SIGKILL
        scene.crew.died(Death(deaf.pid, signal.SIGKILL))
        assert scene.orders == [
            ("host#1/abc", f"worker process {deaf.pid} killed by SIGKILL (it outlived its deadline)", [])
        ]

    def test_one_that_retires_before_its_pid_is_known_is_turned_away(
        self, processes: list[subprocess.Popen[bytes]]
    ) -> None:
        scene = self.assembled(99_999_999)
        relief = self.relieved(scene, 99_999_998)
        scene.crew.hand_on(relief)
        assert scene.crew.relieve(0, scene.hiring) is None
        scene.crew.hired(1, processes[0].pid)
        assert processes[0].wait(5) == -signal.SIGKILL
        assert scene.crew.relieve(0, scene.hiring) is not None

    def test_nobody_is_relieved_when_the_service_leaves(self) -> None:
        scene = Scene().assembled()
        scene.crew.drain(5.0)
        assert scene.crew.relieve(0, scene.hiring) is None


class TestResizing:
    def ready(self, scene: Scene, pids: dict[int, int]) -> None:
        for number, pid in pids.items():
            scene.crew.hired(number, pid)
            scene.board.writer(number).phase("working")
        scene.crew.look()

    def test_a_slot_more_is_filled_at_once(self) -> None:
        scene = Scene(max_processes=4).assembled()
        scene.asked()
        scene.crew.resize(4)
        assert (scene.crew.wanted, [post.slot for post in scene.crew.slots]) == (4, [0, 1, 2, 3])
        assert len(scene.asked()) == 2

    def test_the_last_slots_go_and_their_workers_drain(
        self, processes: list[subprocess.Popen[bytes]]
    ) -> None:
        scene = Scene().assembled()
        self.ready(scene, {0: processes[0].pid, 1: processes[1].pid})
        scene.crew.resize(1)
        assert [post.slot for post in scene.crew.slots] == [0]
        assert processes[1].wait(5) == -signal.SIGTERM
        scene.asked()
        scene.crew.died(Death(processes[1].pid, signal.SIGTERM))
        assert scene.asked() == [] and processes[0].poll() is None

    def test_a_slot_for_which_there_is_no_seat_yet_waits_for_one(
        self, processes: list[subprocess.Popen[bytes]]
    ) -> None:
        scene = Scene().assembled()
        self.ready(scene, {0: processes[0].pid, 1: processes[1].pid})
        scene.crew.resize(1)
        scene.asked()
        for _ in range(1 + SPARES):
            scene.crew.resize(2)
            assert len(scene.asked()) == 1, "the seats of the surge and of spares"
            scene.crew.resize(1)
        scene.crew.resize(2)
        assert scene.asked() == [], "no seat is free"
        scene.crew.died(Death(processes[1].pid, signal.SIGTERM))
        scene.crew.turn(0.0, 0.0)
        assert len(scene.asked()) == 1 and len(scene.crew.slots) == 2

    def test_a_slot_in_its_backoff_goes_without_a_trace(self) -> None:
        scene = Scene(max_processes=3).assembled()
        scene.crew.hired(0, 0)
        scene.crew.hired(1, 0)
        scene.crew.resize(1)
        scene.asked()
        scene.crew.turn(1e12, 0.0)
        assert scene.asked() == [0]

    def test_a_relief_for_a_slot_that_goes_is_turned_away_and_who_sent_it_is_told(self) -> None:
        scene = Scene(max_processes=3).assembled()
        failed: list[tuple[int, str]] = []
        scene.crew.relief_failed = lambda post, cause: failed.append((post.slot, cause))
        assert scene.crew.relieve(1, scene.hiring)
        scene.crew.resize(1)
        assert failed == [(1, "its slot is gone")]

    def test_when_all_slots_that_are_left_have_been_given_up_the_service_has(
        self, processes: list[subprocess.Popen[bytes]]
    ) -> None:
        scene = Scene(max_restarts=0).assembled()
        self.ready(scene, {1: processes[1].pid})
        scene.crew.hired(0, 99_999_999)
        scene.crew.died(Death(99_999_999, signal.SIGKILL))
        assert Event.GAVE_UP not in scene.events
        scene.crew.resize(1)
        assert scene.events[-1] is Event.GAVE_UP


def test_one_that_is_told_to_leave_before_it_is_ready_never_was(
    processes: list[subprocess.Popen[bytes]],
) -> None:
    scene = Scene(processes=1).assembled()
    scene.crew.hired(0, processes[0].pid)
    scene.crew.drain(1e12)
    scene.board.writer(0).phase("draining")
    scene.crew.look()
    assert scene.events == [] and not scene.crew.complete
    # Nor is it late: it has a deadline of another kind.
    assert scene.crew.turn(1e11, 0.0) == math.inf
    assert processes[0].wait(5) == -signal.SIGTERM
