"""Deaths, lifeline, signals, titles, vitality: parts that fit on a page each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from docket_supervisor.board import Board, Seat
from docket_supervisor.child import seated
from docket_supervisor.deaths import Death
from docket_supervisor.lifeline import Lifeline
from docket_supervisor.reaping import reap
from docket_supervisor.salvage import stuck
from docket_supervisor.signals import Signals
from docket_supervisor.vitality import able, there
from tests.supervisor.service import eventually, source_path


def test_a_death_is_told_by_the_signals_name_or_the_exit_status() -> None:
    assert Death(1, signal.SIGSEGV).cause == "killed by SIGSEGV"
    assert Death(1, 50).cause == f"killed by {signal.SIGRTMIN.name if signal.SIGRTMIN == 50 else 'signal 50'}"
    assert Death(1, 3 << 8).cause == "exited with status 3"
    assert (Death(1, 3 << 8).code, Death(1, 3 << 8).signal) == (3, None)
    assert (Death(1, 9).code, Death(1, 9).signal) == (None, 9)


def test_a_lifeline_is_severed_for_everybody_when_its_owner_lets_go() -> None:
    lifeline = Lifeline()
    assert [lifeline.severed, lifeline.severed] == [False, False]
    lifeline.close()
    lifeline.close()
    assert [lifeline.severed, lifeline.severed] == [True, True]


class _Changing(Seat):
    """A seat that reads as another one's from a certain reading on."""

    pids: list[int]

    @property
    def pid(self) -> int:
        return self.pids.pop(0) if len(self.pids) > 1 else self.pids[0]


def changing(*pids: int) -> tuple[Board, Seat]:
    board = Board(1, 1)
    seat = board.seats[0]
    seat.__class__, vars(seat)["pids"] = _Changing, [*pids]
    return board, seat


@pytest.mark.parametrize("before", range(4))
def test_a_worker_is_seated_whenever_it_is_told_so(before: int) -> None:
    _, seat = changing(*[0] * before, os.getpid())
    assert seated(seat, Lifeline())


def test_a_worker_whose_seat_is_anothers_is_not() -> None:
    _, seat = changing(0, os.getpid() + 1, os.getpid())
    assert not seated(seat, Lifeline())


def test_a_worker_whose_supervisor_is_gone_waits_no_longer() -> None:
    lifeline = Lifeline()
    lifeline.close()
    assert not seated(changing(0)[1], lifeline)


def test_a_process_and_a_worker_id_that_do_not_belong_together_are_nobodys() -> None:
    board, seat = changing(4711, 4712, 4712)
    board.writer(0).enlisted("their/4712")
    assert seat.holder is None
    assert seat.holder == (4712, "their/4712")


def test_what_a_stuck_worker_has_begun_is_not_read_from_its_successors_seat() -> None:
    board, seat = changing(4711)
    board.writer(0).enlisted("mine/4711")
    board.writer(0).began(0, "d:1-0", "key", "task", False)
    seat.evacuating = True
    assert stuck([seat]) == [("mine/4711", ["d:1-0"])]
    vars(seat)["pids"] = [4711, 4711, 0]
    assert stuck([seat]) == []


def test_signals_become_readable_in_order() -> None:
    signals = Signals((signal.SIGUSR1, signal.SIGUSR2))
    try:
        assert signals.receive() == []
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signals.receive() == [signal.SIGUSR2, signal.SIGUSR1]
        assert signals.receive() == []
    finally:
        signals.restore()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_a_signal_among_thousands_of_others_finds_room() -> None:
    """What a dead worker has started may die in one turn of ours, each with a CHLD."""
    signals = Signals((signal.SIGUSR1, signal.SIGUSR2))
    try:
        for _ in range(3000):
            os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR2)
        assert signals.waiting()
        assert signals.receive().count(signal.SIGUSR2) == 1
        assert not signals.waiting()
    finally:
        signals.restore()


def test_every_dead_child_is_reaped_after_it_was_looked_at() -> None:
    pids = [
        os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", f"exit({code})"]) for code in (3, 4)
    ]
    looked_at: list[int] = []
    deaths: list[Death] = []

    def look(pid: int) -> None:
        assert psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        looked_at.append(pid)

    eventually(lambda: deaths.extend(reap(look)) or len(deaths) == 2)
    assert {death.pid: death.code for death in deaths} == {pids[0]: 3, pids[1]: 4}
    assert sorted(looked_at) == sorted(pids)


def test_a_stopped_process_is_there_but_not_able() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    process = psutil.Process(child.pid)
    try:
        assert able(child.pid) and there(process)
        child.send_signal(signal.SIGSTOP)
        eventually(lambda: not able(child.pid))
        assert there(process)
        child.send_signal(signal.SIGCONT)
        eventually(lambda: able(child.pid))
        child.kill()
        eventually(lambda: not able(child.pid) and not there(process))
    finally:
        child.kill()
        child.wait()
    assert not able(child.pid) and not there(process)


def test_the_supervisor_loads_nothing_that_only_its_children_need() -> None:
    program = (
        "import sys; import docket_supervisor.main; "
        "print([name for name in ('redis', 'anyio', 'asyncio', 'uvloop', 'docket.docket', 'docket_runtime.run') "
        "if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": source_path()}
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert told.stdout == "[]\n", told.stderr
