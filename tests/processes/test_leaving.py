"""How a service ends: signals, deadlines, exit codes, and what becomes of the work."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.fleet import Evidence, Supervisor, eventually, gone

Supervise = Callable[..., Supervisor]
EITHER = pytest.mark.parametrize("task", [does.wait_for, does.wait_for_sync], ids=["async", "sync"])


@EITHER
def test_one_signal_lets_running_work_finish(
    task: Callable[[str], str], docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "2")
    go = tmp_path / "go"
    execution = docket.add(task, key="running")(str(go))
    evidence.running_in("running")
    supervisor.signal(signal.SIGTERM)
    supervisor.logged("draining, for 30s at most")
    # Its workers hear of it after that line: until then the idle one may take what comes.
    eventually(lambda: len(supervisor.titled("worker")) == 1, "the idle worker has left")
    later = docket.add(does.note, key="later")()
    go.touch()
    assert supervisor.ends() == 0
    assert execution.get_result() and evidence.ran_once("running")
    assert evidence.began("later") == []
    later.sync()
    assert later.state == "queued"
    docket.cancel("later")


def test_a_drained_service_has_returned_what_it_had_claimed_and_not_begun(
    docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "2", "--concurrency", "2")
    for number in range(300):
        docket.add(does.wait, key=f"many-{number}")(0.02)
    evidence.running_in("many-0")
    assert supervisor.stop() == 0
    left = 300 - len(evidence.lines("ended"))
    assert 0 < left < 300
    another = supervise("--processes", "2", "--concurrency", "50")
    eventually(lambda: len(evidence.lines("ended")) == 300)
    assert all(evidence.ran_once(f"many-{number}") for number in range(300))
    assert another.stop() == 0


@EITHER
def test_a_second_signal_shortens_the_drain_and_unfinished_work_is_handed_back(
    task: Callable[[str], str], docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "1")
    go = tmp_path / "go"
    execution = docket.add(task, key="long")(str(go))
    evidence.running_in("long")
    supervisor.signal(signal.SIGINT)
    supervisor.logged("the next one will drain for 5s only")
    supervisor.signal(signal.SIGINT)
    supervisor.logged("draining, for 5s at most; the next one will stop immediately")
    assert supervisor.ends(10) == 7
    assert_it_runs_again(execution, supervise, evidence, go)


@EITHER
@pytest.mark.parametrize(("last", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_third_signal_stops_at_once_and_unfinished_work_is_handed_back(
    task: Callable[[str], str],
    last: signal.Signals,
    code: int,
    docket: Docket,
    supervise: Supervise,
    evidence: Evidence,
    tmp_path: Path,
) -> None:
    supervisor = supervise("--processes", "1")
    go = tmp_path / "go"
    execution = docket.add(task, key="long")(str(go))
    evidence.running_in("long")
    for number, said in (
        (signal.SIGTERM, "30s at most"),
        (signal.SIGTERM, "5s at most"),
        (last, "immediately"),
    ):
        supervisor.signal(number)
        supervisor.logged(said)
    assert supervisor.ends(4) == code
    assert_it_runs_again(execution, supervise, evidence, go)


@EITHER
def test_when_grace_is_over_unfinished_work_is_handed_back_and_the_exit_code_is_7(
    task: Callable[[str], str], docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "2", "--drain-timeout", "500ms")
    go = tmp_path / "go"
    execution = docket.add(task, key="long")(str(go))
    evidence.running_in("long")
    supervisor.signal(signal.SIGTERM)
    assert supervisor.ends(6) == 7
    assert_it_runs_again(execution, supervise, evidence, go)


def test_a_worker_whose_loop_is_blocked_is_killed_and_its_work_handed_back(
    docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "1", "--drain-timeout", "500ms")
    docket.add(does.block_the_loop, key="blocker")(8)
    pid = evidence.running_in("blocker")
    supervisor.signal(signal.SIGTERM)
    assert supervisor.ends(7) == 7
    assert gone(pid) and "outlived its deadline" in supervisor.log()
    execution = docket.get_execution("blocker")
    assert execution and (execution.state, execution.crashes) == ("queued", 0)
    docket.cancel("blocker")


def assert_it_runs_again(execution, supervise: Supervise, evidence: Evidence, go: Path) -> None:
    """At once, on the next service, without having lost an attempt or its good name."""
    assert evidence.ended(execution.key) == []
    execution.sync()
    assert (execution.state, execution.crashes) == ("queued", 0)
    another = supervise("--processes", "1")
    go.touch()
    execution.get_result()
    execution.sync()
    assert (execution.state, execution.attempt, execution.crashes) == ("completed", 1, 0)
    assert len(evidence.began(execution.key)) == 2
    assert another.stop() == 0


@EITHER
def test_workers_of_a_killed_supervisor_finish_their_work_and_leave(
    task: Callable[[str], str], docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "2", "--redelivery-timeout", "2s")
    go = tmp_path / "go"
    execution = docket.add(task, key="running")(str(go))
    pid = evidence.running_in("running")
    eventually(lambda: supervisor.titled("spare"))
    everybody = supervisor.everybody()
    assert len(everybody) == 5
    supervisor.signal(signal.SIGKILL)
    supervisor.logged("supervisor is gone")
    began_at = time.monotonic()
    eventually(lambda: all(gone(one) for one in everybody if one != pid and "steward" not in titles([one])))
    # The lease outlives its supervisor: longer than the redelivery timeout, and still it is not redelivered.
    eventually(lambda: time.monotonic() - began_at > 3.0)
    assert not gone(pid)
    go.touch()
    assert execution.get_result() == str(pid)
    eventually(lambda: all(gone(one) for one in everybody), "everybody has left", patience=5.0)
    assert evidence.ran_once("running")


def titles(pids: list[int]) -> str:
    import psutil

    found = ""
    for pid in pids:
        try:
            found += " ".join(psutil.Process(pid).cmdline())
        except psutil.Error:
            continue
    return found


@pytest.mark.measured
def test_all_are_gone_soon_after_the_budget_when_the_supervisor_was_killed(
    docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    """One cannot stop what it runs in a thread, one is stopped by a signal, one has blocked its loop."""
    supervisor = supervise("--processes", "3", "--concurrency", "1", "--drain-timeout", "1s")
    docket.add(does.wait_sync, key="in-a-thread")(60)
    docket.add(does.block_the_loop, key="blocker")(60)
    busy = {evidence.running_in("in-a-thread"), evidence.running_in("blocker")}
    (idle,) = set(supervisor.titled("worker")) - busy
    os.kill(idle, signal.SIGSTOP)
    everybody = supervisor.everybody()
    supervisor.signal(signal.SIGKILL)
    started = time.monotonic()
    eventually(lambda: all(gone(one) for one in everybody), "everybody has left")
    assert time.monotonic() - started < 1 + 3 + 0.5
    for key in ("in-a-thread", "blocker"):
        execution = docket.get_execution(key)
        assert execution and (execution.state, execution.crashes) == ("queued", 0)
        docket.cancel(key)


def test_nothing_is_lost_when_a_supervisor_is_killed_in_the_middle(
    docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "2", "--concurrency", "5")
    for number in range(200):
        docket.add(does.wait, key=f"many-{number}")(0.02)
    evidence.running_in("many-20")
    everybody = supervisor.everybody()
    supervisor.signal(signal.SIGKILL)
    eventually(lambda: all(gone(one) for one in everybody))
    assert len(evidence.lines("ended")) < 200
    another = supervise("--processes", "2", "--concurrency", "50")
    eventually(lambda: len(evidence.lines("ended")) == 200)
    assert all(evidence.ran_once(f"many-{number}") for number in range(200))
    assert another.stop() == 0
