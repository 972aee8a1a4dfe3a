"""What each signal to the parent does, in the words of the table of signals."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.fleet import Evidence, Supervisor, eventually

Supervise = Callable[..., Supervisor]
EITHER = pytest.mark.parametrize("task", [does.wait_for, does.wait_for_sync], ids=["async", "sync"])


@EITHER
def test_tstp_stops_claiming_and_keeps_running_and_renewing_and_cont_leaves_quiet(
    task: Callable[[str], str], docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "2", "--redelivery-timeout", "1s")
    go = tmp_path / "go"
    running = docket.add(task, key="running")(str(go))
    pid = evidence.running_in("running")
    supervisor.signal(signal.SIGTSTP)
    supervisor.logged("all workers are quiet")
    quiet_since = time.monotonic()
    later = docket.add(does.note, key="later")()
    # Longer than any lease that is not renewed (1 s and its margins).
    eventually(lambda: time.monotonic() - quiet_since > 2.5)
    assert evidence.began("later") == [] and len(evidence.began("running")) == 1
    go.touch()
    assert running.get_result() == str(pid)
    assert evidence.began("later") == []
    supervisor.signal(signal.SIGCONT)
    later.get_result()
    assert evidence.ran_once("running") and evidence.ran_once("later")
    assert supervisor.stop() == 0


def test_cont_is_harmless_when_not_quiet_and_winch_is_ignored(
    docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "1")
    (pid,) = supervisor.titled("worker")
    for number in (signal.SIGCONT, signal.SIGWINCH, signal.SIGCONT):
        supervisor.signal(number)
    docket.add(does.note, key="after")().get_result()
    assert supervisor.titled("worker") == [pid] and "quiet" not in supervisor.log()
    assert supervisor.stop() == 0


def test_a_worker_that_replaces_a_dead_one_during_quiet_claims_nothing(
    docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "1")
    supervisor.signal(signal.SIGTSTP)
    supervisor.logged("all workers are quiet")
    (pid,) = supervisor.titled("worker")
    os.kill(pid, signal.SIGKILL)
    eventually(
        lambda: (now := supervisor.titled("worker")) and now != [pid] and "is ready" in supervisor.log()
    )
    eventually(lambda: supervisor.log().count("] ") and supervisor.log().count("is ready after") == 2)
    later = docket.add(does.note, key="later")()
    looked = time.monotonic()
    eventually(lambda: time.monotonic() - looked > 0.5)
    assert evidence.began("later") == []
    supervisor.signal(signal.SIGCONT)
    later.get_result()
    assert supervisor.stop() == 0


def test_a_quiet_service_drains_at_a_term(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "2")
    go = tmp_path / "go"
    running = docket.add(does.wait_for, key="running")(str(go))
    evidence.running_in("running")
    supervisor.signal(signal.SIGTSTP)
    supervisor.logged("all workers are quiet")
    supervisor.signal(signal.SIGTERM)
    supervisor.logged("draining")
    go.touch()
    assert supervisor.ends() == 0
    assert running.get_result()


@EITHER
@pytest.mark.parametrize("draining", [False, True], ids=["at-work", "draining"])
def test_quit_stops_at_once_with_131_and_unfinished_work_is_handed_back(
    draining: bool,
    task: Callable[[str], str],
    docket: Docket,
    supervise: Supervise,
    evidence: Evidence,
    tmp_path: Path,
) -> None:
    supervisor = supervise("--processes", "1")
    execution = docket.add(task, key="long")(str(tmp_path / "never"))
    evidence.running_in("long")
    if draining:
        supervisor.signal(signal.SIGTERM)
        supervisor.logged("draining")
    supervisor.signal(signal.SIGQUIT)
    assert supervisor.ends(4) == 131
    execution.sync()
    assert (execution.state, execution.crashes, execution.attempt) == ("queued", 0, 1)
    docket.cancel("long")


def test_ttin_and_ttou_change_the_number_of_processes_within_their_bounds(supervise: Supervise) -> None:
    supervisor = supervise("--processes", "2", "--min-processes", "1", "--max-processes", "3")
    supervisor.signal(signal.SIGTTIN)
    supervisor.logged("all workers are ready: 3")
    assert len(supervisor.titled("worker")) == 3
    supervisor.signal(signal.SIGTTIN)
    supervisor.logged("staying at 3 processes: expected between 1 and 3 processes, got 4")
    for left in (2, 1):
        supervisor.signal(signal.SIGTTOU)
        eventually(lambda left=left: len(supervisor.titled("worker")) == left, f"{left} workers")
    supervisor.signal(signal.SIGTTOU)
    supervisor.logged("staying at 1 processes: expected between 1 and 3 processes, got 0")
    assert "[0]" in supervisor.titles("worker")[0]
    assert supervisor.stop() == 0


@EITHER
def test_a_worker_that_ttou_takes_away_drains_first(
    task: Callable[[str], str], docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "2", "--concurrency", "1")
    go = tmp_path / "go"
    running = [docket.add(task, key=f"running-{number}")(str(go)) for number in range(2)]
    pids = {evidence.running_in(f"running-{number}") for number in range(2)}
    supervisor.signal(signal.SIGTTOU)
    supervisor.logged("scaling from 2 to 1 processes")
    later = [docket.add(does.wait, key=f"later-{number}")(0.01) for number in range(5)]
    assert set(supervisor.titled("worker")) == pids
    go.touch()
    assert {execution.get_result() for execution in running} == {str(pid) for pid in pids}
    eventually(lambda: len(supervisor.titled("worker")) == 1)
    assert {int(execution.get_result()) for execution in later} == set(supervisor.titled("worker"))
    assert supervisor.stop() == 0


def test_a_worker_that_ttou_takes_away_is_killed_when_its_time_is_up_and_its_work_goes_on_elsewhere(
    docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "2", "--concurrency", "1", "--drain-timeout", "300ms")
    docket.add(does.block_the_loop, key="blocker-0")(6)
    docket.add(does.block_the_loop, key="blocker-1")(6)
    pids = {evidence.running_in("blocker-0"), evidence.running_in("blocker-1")}
    supervisor.signal(signal.SIGTTOU)
    supervisor.logged("it outlived its deadline")
    eventually(lambda: len(supervisor.titled("worker")) == 1)
    assert set(supervisor.titled("worker")) < pids
    eventually(lambda: len(evidence.lines("ended")) == 2, "both ended")
    assert supervisor.stop() == 0
