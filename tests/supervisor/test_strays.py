"""Who is a stray and who is not; when it is told, when it is killed. Real processes; the clock is the test's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from docket_supervisor.strays import COOKIE, PATIENCE, Strays, mark
from tests.supervisor.service import eventually

SUPERVISOR = 2**22 + 1
"""No process has such a pid: whatever else runs on this machine is not ours."""

Program = subprocess.Popen[bytes]
Start = Callable[..., Program]


@pytest.fixture
def program() -> Iterator[Start]:
    """Sleeps, with this in its environment; a deaf one ignores TERM."""
    started: list[Program] = []

    def start(cookie: str = "", *, deaf: bool = False, apart: bool = False) -> Program:
        trap = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" if deaf else ""
        child = subprocess.Popen(
            [sys.executable, "-c", f"{trap}import time; print(flush=True); time.sleep(600)"],
            stdout=subprocess.PIPE,
            env={**os.environ, COOKIE: cookie},
            start_new_session=apart,
        )
        started.append(child)
        assert child.stdout is not None
        child.stdout.readline()
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


@pytest.fixture
def dead() -> int:
    """The pid of a worker that is no more."""
    worker = subprocess.Popen([sys.executable, "-c", ""])
    worker.wait()
    return worker.pid


def ended_by(child: Program, number: signal.Signals) -> bool:
    return eventually(lambda: child.poll() is not None) and child.returncode == -number


def test_who_bears_the_mark_of_a_dead_worker_is_told_and_then_killed(program: Start, dead: int) -> None:
    obedient = program(mark(dead, SUPERVISOR))
    deaf = program(mark(dead, SUPERVISOR), deaf=True)
    strays = Strays(SUPERVISOR)
    strays.orphaned_by(dead, 10.0)
    assert strays.turn(10.0, ()) < 10.0 + PATIENCE
    assert ended_by(obedient, signal.SIGTERM)
    assert strays.turn(10.0 + PATIENCE - 0.1, ()) == 10.0 + PATIENCE
    assert deaf.poll() is None and strays.pending
    strays.turn(10.0 + PATIENCE, ())
    assert ended_by(deaf, signal.SIGKILL)
    strays.turn(10.0 + PATIENCE + 1, ())
    assert not strays.pending


def test_who_is_found_late_has_no_time_of_its_own(program: Start, dead: int) -> None:
    strays = Strays(SUPERVISOR)
    strays.orphaned_by(dead, 10.0)
    strays.turn(10.0, ())
    born_late = program(mark(dead, SUPERVISOR), deaf=True)
    strays.turn(10.0 + PATIENCE, ())
    assert ended_by(born_late, signal.SIGKILL)


def test_each_workers_strays_have_their_own_time(program: Start, dead: int) -> None:
    other = subprocess.Popen([sys.executable, "-c", ""])
    other.wait()
    first = program(mark(dead, SUPERVISOR), deaf=True)
    second = program(mark(other.pid, SUPERVISOR), deaf=True)
    strays = Strays(SUPERVISOR)
    strays.orphaned_by(dead, 10.0)
    strays.orphaned_by(other.pid, 11.0)
    strays.turn(10.0 + PATIENCE, ())
    assert ended_by(first, signal.SIGKILL) and second.poll() is None


def test_there_may_be_less_time(program: Start, dead: int) -> None:
    deaf = program(mark(dead, SUPERVISOR), deaf=True)
    strays = Strays(SUPERVISOR)
    strays.orphaned_by(dead, 10.0, latest=10.2)
    assert strays.turn(10.0, ()) == 10.2
    strays.turn(10.2, ())
    assert ended_by(deaf, signal.SIGKILL)


def test_somebody_elses_are_left_alone(program: Start, dead: int) -> None:
    """Another service's, which may have had a worker of the same pid; and one whose worker is there, the pid being its
    own by now, by mark and by session."""
    another_service = program(mark(dead, SUPERVISOR + 1))
    leader = program(apart=True)
    living = program(mark(leader.pid, SUPERVISOR))
    strays = Strays(SUPERVISOR)
    strays.orphaned_by(dead, 10.0)
    strays.orphaned_by(leader.pid, 10.0)
    strays.turn(10.0, ())
    strays.turn(10.0 + PATIENCE, ())
    assert not strays.pending
    assert [each.poll() for each in (another_service, leader, living)] == [None] * 3


def test_who_is_known_is_none(program: Start, dead: int) -> None:
    ours = program(mark(dead, SUPERVISOR))
    strays = Strays(SUPERVISOR)
    strays.orphaned_by(dead, 10.0)
    strays.turn(10.0, (ours.pid,))
    assert not strays.pending and ours.poll() is None


def test_the_last_look_finds_who_was_born_after_the_one_before(program: Start, dead: int) -> None:
    strays = Strays(SUPERVISOR)
    strays.orphaned_by(dead, 10.0)
    assert strays.pending and not strays.none_left(10.0, ())
    strays.turn(10.0, ())
    assert not strays.pending
    late = program(mark(dead, SUPERVISOR))
    assert not strays.none_left(10.05, ())
    assert ended_by(late, signal.SIGTERM)
    strays.turn(11.0, ())
    assert strays.none_left(11.0, ())


def test_those_whose_worker_had_died_before_are_found_by_their_mark(program: Start, dead: int) -> None:
    stray = program(mark(dead, SUPERVISOR))
    worker = program()
    its_child = program(mark(worker.pid, SUPERVISOR))
    strays = Strays(SUPERVISOR)
    strays.orphaned_before(10.0, {worker.pid}, latest=20.0)
    assert strays.dead_workers == {dead}
    strays.turn(10.0, ())
    assert ended_by(stray, signal.SIGTERM) and its_child.poll() is None


def test_a_worker_is_forgotten_when_nothing_of_it_is_left(program: Start, dead: int) -> None:
    strays = Strays(SUPERVISOR)
    strays.orphaned_by(dead, 10.0)
    strays.turn(10.0, ())
    strays.turn(10.0 + 2 * PATIENCE, ())
    assert not strays.dead_workers and strays.turn(20.0, ()) == float("inf")
