"""What is seen of a worker, and done about it, without waiting for real time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psutil
import pytest

from docket import clock
from docket_runtime.settings import WorkerSettings
from docket_supervisor.board import Board
from docket_supervisor.posts import Post, Role, Sentence, Sitting, Watch
from docket_supervisor.restarts import Restarts
from docket_supervisor.settings import SupervisorSettings
from docket_supervisor.vigil import Vigil

BLOCKED = (
    'Thread 0x01 (most recent call first):\n  File "/app/tasks.py", line 7 in work\n'
    '  File "/lib/threads.py", line 1 in execution in place 1\n'
    'Thread 0x02 (most recent call first):\n  File "/app/tasks.py", line 9 in blocks\n'
    '  File "/lib/worker.py", line 2 in execution in place 0\n'
)
WAITING = BLOCKED.replace("execution in place 0", "run")


class Dumps:
    """Answers with what the test says, when the test says so."""

    def __init__(self) -> None:
        self.asked: list[bool] = []
        self.waiting: list[Callable[[str], object]] = []

    def ask(
        self,
        number: int,
        pid: int,
        title: str,
        then: Any = None,
        *,
        quietly: bool = False,
        patience: float = 1.0,
    ) -> None:
        self.asked.append(quietly)
        self.waiting.append(then)

    def come(self, text: str) -> None:
        waiting, self.waiting = self.waiting, []
        for then in waiting:
            then(text)


class Scene:
    """One worker with two places and two threads; `now` passes as the test says."""

    def __init__(self, pid: int = 99_999_999, **settings: Any) -> None:
        self.board = Board(1, 2)
        self.seat, self.writer = self.board.seats[0], self.board.writer(0)
        self.post = Post(0, self.seat, Restarts(1, timedelta(1)), Role.WORKER, 0)
        self.post.pid, self.post.sitting = pid, Sitting.READY
        self.writer.phase("working")
        self.condemned: list[Sentence] = []
        self.replaced: list[tuple[Sentence, timedelta]] = []
        self.dumps = Dumps()
        worker = WorkerSettings(concurrency=2, threads=2)
        self.vigil = Vigil(
            SupervisorSettings(processes=1, worker=worker, **settings),
            [self.post],
            self,
            self.dumps,  # type: ignore[arg-type]
        )
        self.now = clock.monotonic()
        self.writer.tick()

    def condemn(self, post: Post, sentence: Sentence) -> None:
        self.condemned.append(sentence)
        post.killed, post.sentence = True, sentence
        post.watch.condemned_at = self.now

    def replace(self, post: Post, sentence: Sentence, grace: timedelta) -> None:
        self.replaced.append((sentence, grace))

    def passes(self, seconds: float, *, ticking: bool = False) -> None:
        for _ in range(round(seconds * 4)):
            self.now += 0.25
            if ticking:
                self.seat._set(136, self.now)  # the moment of the last tick
            self.vigil.turn(self.now)


@pytest.fixture
def process() -> Iterator[psutil.Process]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield psutil.Process(process.pid)
    process.kill()
    process.wait()


def test_a_loop_that_turns_is_left_alone() -> None:
    scene = Scene()
    scene.passes(100, ticking=True)
    assert not scene.condemned and not scene.dumps.asked and not scene.writer.standing_down


def test_while_nobody_runs_anything_it_looks_less_often() -> None:
    scene = Scene()
    assert scene.vigil.turn(scene.now) == scene.now + 1.5
    scene.writer.began(0, "d:1-0", "key", "task", False)
    scene.now += 1.5
    assert scene.vigil.turn(scene.now) == scene.now + 0.25
    scene.writer.ended(0)
    scene.now += 0.25
    assert scene.vigil.turn(scene.now) == scene.now + 1.5


def test_a_short_ladder_is_looked_at_often_all_the_same() -> None:
    scene = Scene(hang_timeout=timedelta(seconds=6))
    assert scene.vigil.turn(scene.now) == scene.now + 0.25


def test_a_loop_that_has_said_it_rests_is_not_late_before_its_time() -> None:
    scene = Scene(hang_timeout=timedelta(seconds=12))
    scene.writer.tick(pause=1.0)
    scene.passes(1.75)
    assert not scene.post.watch.taken
    scene.passes(0.5)
    assert scene.post.watch.taken == 1


def test_the_memory_of_one_that_runs_nothing_is_hardly_ever_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    monkeypatch.setattr("docket_supervisor.vigil.private_bytes", lambda pid: asked.append(pid) or 1)
    scene = Scene()
    scene.passes(58, ticking=True)
    assert len(asked) == 1
    scene.passes(10, ticking=True)
    assert len(asked) == 2
    scene.writer.started("task", False, 0.0)
    scene.passes(6, ticking=True)
    assert len(asked) == 3


def test_a_loop_that_does_not_goes_up_the_ladder_and_its_blocker_is_blamed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene()
    scene.writer.began(0, "d:0-0", "blocker", "blocks", False)
    scene.writer.began(1, "d:1-0", "innocent", "work", True)
    scene.passes(3)
    assert "worker [0] 99999999 has not turned its loop for 2." in caplog.text
    assert "running blocker (blocks), innocent (work)" in caplog.text and not scene.writer.standing_down
    scene.passes(1)
    assert scene.writer.standing_down and not scene.dumps.asked
    scene.passes(1)
    assert scene.dumps.asked == [False] and not scene.seat.evacuating
    scene.dumps.come(BLOCKED)
    assert (
        "blocker (blocks) blocks the loop of worker [0] 99999999 at /app/tasks.py:9; make it a plain def"
        in caplog.text
    )
    scene.passes(1)
    assert scene.seat.evacuating
    scene.passes(54)
    assert not scene.condemned
    scene.passes(1)
    assert len(scene.dumps.asked) == 2
    (sentence,) = scene.condemned
    assert (sentence.label, sentence.guilty) == ("hang", ("d:0-0",))
    assert sentence.why.startswith("its loop had not turned for 60.") and sentence.why.endswith(
        "/app/tasks.py:9"
    )


def test_one_that_turns_again_is_fed_again_and_starts_from_the_first_step(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    scene = Scene()
    scene.passes(6)
    assert scene.seat.evacuating
    scene.passes(1, ticking=True)
    assert not scene.writer.standing_down and not scene.seat.evacuating
    assert "turns its loop again" in caplog.text
    scene.passes(3)
    assert caplog.text.count("has not turned its loop") == 2


def test_with_zero_nobody_is_killed() -> None:
    scene = Scene(hang_timeout=timedelta(0))
    scene.passes(1000)
    assert scene.seat.evacuating and scene.condemned == []


def test_a_supervisor_that_slept_itself_blames_nobody() -> None:
    scene = Scene()
    scene.now += 3600
    scene.vigil.turn(scene.now)
    scene.passes(1)
    assert not scene.condemned and scene.post.watch.taken == 0


def test_a_stopped_worker_is_reported_and_killed_and_all_that_it_ran_is_suspect(
    process: psutil.Process, caplog: pytest.LogCaptureFixture
) -> None:
    process.suspend()
    while process.status() != psutil.STATUS_STOPPED:
        pass
    scene = Scene(process.pid)
    scene.writer.began(0, "d:0-0", "perhaps", "work", False)
    scene.writer.began(1, "d:1-0", "perhaps too", "work", True)
    scene.passes(30)
    assert "is stopped by a signal" in caplog.text and scene.dumps.asked == []
    scene.passes(31)
    (sentence,) = scene.condemned
    assert (sentence.label, sentence.guilty) == ("stopped", ("d:0-0", "d:1-0"))


def leaving(scene: Scene) -> None:
    """TERM has come, from whomever."""
    scene.writer.began(0, "d:0-0", "perhaps", "work", False)
    scene.writer.began(1, "d:1-0", "ends", "work", True)
    scene.writer.phase("draining")
    scene.passes(0.25, ticking=True)
    scene.writer.ended(1)


def test_what_runs_in_a_worker_that_leaves_unasked_has_the_drain_timeout_and_is_suspect_then(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene()
    leaving(scene)
    assert (
        "was told to leave, and not by us; it runs perhaps (work), ends (work), which has 30s" in caplog.text
    )
    scene.writer.began(1, "d:2-0", "came later", "work", True)
    scene.passes(31, ticking=True)
    assert scene.condemned == [] and caplog.text.count("was told to leave") == 1
    scene.passes(1, ticking=True)
    (sentence,) = scene.condemned
    assert (sentence.label, sentence.guilty) == ("drain-deadline", ("d:0-0",))
    assert sentence.why == "it was told to leave, not by us, and had not left after 30s"


def test_one_that_leaves_before_anybody_saw_that_it_was_ready_is_watched_like_any_other() -> None:
    """Its first task has told it to."""
    scene = Scene()
    scene.post.sitting = Sitting.BOOTING
    leaving(scene)
    scene.passes(32, ticking=True)
    assert [sentence.guilty for sentence in scene.condemned] == [("d:0-0",)]


def test_one_that_we_have_told_to_leave_blames_nobody() -> None:
    """Also when somebody else did so before: a service manager that signals every process, say."""
    scene = Scene()
    leaving(scene)
    scene.passes(20, ticking=True)
    scene.seat.drain_at = scene.now + 30
    scene.passes(100, ticking=True)
    assert scene.condemned == []


def test_one_that_has_left_and_does_not_end_shows_its_stacks_and_is_killed_and_blames_nobody() -> None:
    """Its application closes what it has opened, and that hangs; nobody has given it a deadline."""
    scene = Scene()
    scene.post.role = Role.QUARANTINE
    scene.writer.began(1, "d:1-0", "in a thread still", "work", True)
    scene.writer.phase("left")
    scene.passes(32)
    assert scene.condemned == [] and scene.dumps.asked == []
    scene.passes(0.25)
    assert scene.condemned == [] and scene.dumps.asked == [False]
    scene.passes(0.5)
    (sentence,) = scene.condemned
    assert (sentence.label, sentence.guilty) == ("drain-deadline", ())
    assert sentence.why == "it had left, but its process had not ended after 30s"
    assert scene.dumps.asked == [False]


def test_what_was_done_about_its_loop_before_it_left_does_not_count() -> None:
    scene = Scene()
    scene.passes(6)
    assert scene.post.watch.taken == 4
    scene.writer.phase("left")
    scene.passes(36)
    assert len(scene.condemned) == 1


def test_one_that_leaves_has_its_whole_time_however_long_it_was_there_and_whoever_had_its_seat_before() -> (
    None
):
    scene = Scene()
    scene.passes(1000, ticking=True)
    scene.writer.phase("left")
    scene.passes(31)
    scene.post.pid += 1
    scene.post.watch = Watch()  # as whoever is hired has
    scene.writer.phase("working")
    scene.passes(1, ticking=True)
    scene.writer.phase("left")
    scene.passes(32)
    assert scene.condemned == []


def test_while_we_slept_nobody_who_has_left_could_end_either() -> None:
    scene = Scene()
    scene.writer.phase("left")
    scene.passes(1)
    scene.now += 3600
    scene.vigil.turn(scene.now)
    scene.passes(31)
    assert scene.condemned == []


def test_what_runs_in_threads_is_suspect_when_nothing_blocks_on_the_loop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene(hang_timeout=timedelta(seconds=3))
    scene.writer.began(0, "d:0-0", "innocent", "waits", False)
    scene.writer.began(1, "d:1-0", "holder", "work", True)
    scene.passes(1)
    scene.dumps.come(WAITING)
    assert (
        "holder (work) may keep worker [0] 99999999 from turning its loop at /app/tasks.py:7" in caplog.text
    )
    scene.passes(3)
    assert scene.condemned[0].guilty == ("d:1-0",)


def test_a_thread_that_does_not_end_at_its_time_limit_costs_its_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene()
    scene.writer.began(1, "d:1-0", "late", "work", True)
    scene.writer.limited(1, scene.now + 1, 1.0, "failed", 0)
    scene.passes(2.75, ticking=True)
    assert scene.replaced == []
    scene.passes(0.5, ticking=True)
    ((sentence, grace),) = scene.replaced
    assert (sentence.label, sentence.guilty, grace) == ("timeout", (), timedelta(seconds=10))
    assert "late (work) did not end at its time limit of 1s" in caplog.text
    scene.passes(5, ticking=True)
    assert len(scene.replaced) == 1


def test_a_drain_shorter_than_that_is_all_that_the_neighbours_get() -> None:
    worker = WorkerSettings(concurrency=2, drain_timeout=timedelta(seconds=3))
    scene = Scene()
    scene.vigil = Vigil(
        SupervisorSettings(processes=1, worker=worker),
        [scene.post],
        scene,
        scene.dumps,  # type: ignore[arg-type]
    )
    scene.writer.began(1, "d:1-0", "late", "work", True)
    scene.writer.limited(1, scene.now, 1.0, "failed", 0)
    scene.passes(3, ticking=True)
    assert scene.replaced[0][1] == timedelta(seconds=3)


def test_a_limit_that_moves_is_heeded_and_one_of_a_task_on_the_loop_is_the_loops_affair() -> None:
    scene = Scene()
    scene.writer.began(0, "d:0-0", "on-the-loop", "waits", False)
    scene.writer.limited(0, scene.now, 1.0, "failed", 0)
    scene.writer.began(1, "d:1-0", "extended", "work", True)
    scene.writer.limited(1, scene.now + 1, 1.0, "failed", 0)
    scene.passes(2, ticking=True)
    scene.writer.limited(1, scene.now + 10, 1.0, "failed", 0)
    scene.passes(9, ticking=True)
    assert scene.replaced == []


def test_one_that_blocks_the_loop_past_its_own_limit_is_ended_by_that() -> None:
    scene = Scene()
    scene.writer.began(0, "d:0-0", "blocker", "blocks", False)
    scene.writer.limited(0, scene.now + 1, 1.0, "failed", 0)
    scene.passes(4.5)
    assert scene.replaced == []
    scene.dumps.come(BLOCKED)
    scene.passes(0.25)
    ((sentence, grace),) = scene.replaced
    assert (sentence.label, grace) == ("timeout", timedelta(0))


def test_a_worker_all_of_whose_threads_are_abandoned_is_replaced() -> None:
    scene = Scene()
    scene.writer.abandoned(1)
    scene.passes(1, ticking=True)
    assert scene.replaced == []
    scene.writer.abandoned(2)
    scene.passes(1, ticking=True)
    assert "all its 2 threads are taken" in scene.replaced[0][0].why


def test_age_is_reported_with_the_line_and_again_when_it_has_doubled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene(slow_after=timedelta(seconds=5))
    scene.writer.began(1, "d:1-0", "slow", "work", True)
    scene.passes(4.5, ticking=True)
    assert scene.dumps.asked == []
    scene.passes(1, ticking=True)
    assert scene.dumps.asked == [True], "quietly"
    scene.dumps.come(BLOCKED)
    assert (
        "slow (work) has been running for 5s in a thread of worker [0] 99999999, at /app/tasks.py:7"
        in caplog.text
    )
    scene.passes(4, ticking=True)
    assert len(scene.dumps.asked) == 1
    scene.passes(1, ticking=True)
    assert len(scene.dumps.asked) == 2
    scene.passes(100, ticking=True)
    assert not scene.condemned and not scene.replaced


def test_of_one_on_the_loop_it_is_told_what_it_awaits(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(slow_after=timedelta(seconds=5))
    scene.writer.began(0, "d:0-0", "slow", "waits", False)
    scene.passes(6, ticking=True)
    tasks = 'asyncio tasks: 2\n  slow:\n    File "/app/tasks.py", line 33 in waits\n'
    tasks += '  other:\n    File "/x.py", line 1 in y\n'
    scene.dumps.come(WAITING + tasks)
    assert (
        "slow (waits) has been running for 5s on the loop of worker [0] 99999999, at /app/tasks.py:33"
        in caplog.text
    )


def test_one_that_outlives_its_own_killing_is_overdue() -> None:
    scene = Scene()
    scene.passes(61)
    assert scene.condemned and not scene.seat.overdue
    scene.passes(6)
    assert scene.seat.overdue


def test_memory_is_sampled_at_once_and_then_every_five_seconds(process: psutil.Process) -> None:
    scene = Scene(process.pid)
    scene.passes(0.25, ticking=True)
    assert scene.post.watch.private_bytes > 0
    first = scene.post.watch.sampled_at
    scene.writer.began(0, "d:1-0", "key", "task", False)
    scene.passes(3, ticking=True)
    assert scene.post.watch.sampled_at == first
    scene.passes(4, ticking=True)
    assert scene.post.watch.sampled_at > first
