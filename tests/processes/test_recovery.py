"""A worker dies with work in flight: the work is handed over at once, and only the culprit is blamed."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from docket.errors import DeadLetter
from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.fleet import Evidence, Supervisor, eventually, gone
from tests.supervisor.service import source_path

Supervise = Callable[..., Supervisor]
EITHER = pytest.mark.parametrize("task", [does.wait_for, does.wait_for_sync], ids=["async", "sync"])


@EITHER
@pytest.mark.parametrize("preload", ["--preload", "--no-preload"])
def test_the_work_of_a_killed_worker_runs_again_at_once(
    task: Callable[[str], str],
    preload: str,
    docket: Docket,
    supervise: Supervise,
    evidence: Evidence,
    tmp_path: Path,
) -> None:
    supervisor = supervise("--processes", "2", preload)
    go = tmp_path / "go"
    execution = docket.add(task, key="interrupted")(str(go))
    first = evidence.running_in("interrupted")
    os.kill(first, signal.SIGKILL)
    second = evidence.running_in("interrupted", times=2)
    assert second != first
    go.touch()
    assert execution.get_result() == str(second)
    execution.sync()
    assert (execution.state, execution.attempt, execution.crashes) == ("completed", 1, 0)
    assert execution.redelivered
    assert supervisor.stop() == 0
    assert f"{first} killed by SIGKILL" in supervisor.log()
    assert len(evidence.began("interrupted")) == 2 and len(evidence.ended("interrupted")) == 1


def test_half_of_the_killed_run_again_within_a_quarter_of_a_second(
    docket: Docket,
    supervise: Supervise,
    evidence: Evidence,
    tmp_path: Path,
    record_property: Callable[..., None],
) -> None:
    supervisor = supervise("--processes", "2")
    recovered: list[float] = []
    for number in range(10):
        key, go = f"interrupted-{number}", tmp_path / f"go-{number}"
        docket.add(does.wait_for, key=key)(str(go))
        pid = evidence.running_in(key)
        killed_at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        evidence.running_in(key, times=2)
        recovered.append(evidence.began(key)[1]["at"] - killed_at)
        go.touch()
        eventually(lambda key=key: evidence.ended(key))
        eventually(lambda: len(supervisor.titled("worker")) == 2)
    record_property("seconds_from_kill_to_running_again", recovered)
    assert statistics.median(recovered) < 0.25, recovered
    assert supervisor.stop() == 0


def test_what_had_not_begun_goes_back_without_blame(
    docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    """The one slot is blocked, so that what else the worker has claimed cannot begin."""
    supervisor = supervise("--processes", "1", "--concurrency", "1")
    docket.add(does.wait, key="blocker")(60)
    pid = evidence.running_in("blocker")
    waiting = [docket.add(does.note, key=f"waiting-{number}")() for number in range(20)]
    os.kill(pid, signal.SIGKILL)
    for execution in waiting:
        execution.get_result()
        execution.sync()
        assert (execution.crashes, len(evidence.began(execution.key))) == (0, 1)
    supervisor.signal(signal.SIGTERM)
    supervisor.signal(signal.SIGTERM)
    docket.cancel("blocker")
    supervisor.ends()


@pytest.mark.parametrize("poison", [does.exit_at_once, does.exit_at_once_sync, does.segfault])
def test_a_poison_task_kills_three_processes_and_no_innocent(
    poison: Callable[[], None], docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    # One worker, so that the innocents do run beside it.
    supervisor = supervise("--processes", "1", "--concurrency", "8")
    go = tmp_path / "go"
    innocents = [docket.add(does.wait_for, key=f"innocent-{number}")(str(go)) for number in range(4)]
    for innocent in innocents:
        evidence.running_in(innocent.key)
    culprit = docket.add(poison, key="poison")()
    eventually(lambda: supervisor.titled("quarantine"))
    go.touch()
    with pytest.raises(DeadLetter) as dead:
        culprit.get_result()
    for innocent in innocents:
        innocent.get_result()
        innocent.sync()
        assert (innocent.state, innocent.crashes, innocent.attempt) == ("completed", 0, 1)
        assert innocent.redelivered and len(evidence.began(innocent.key)) == 2
    assert len(evidence.began("poison")) == 3
    assert len({run["pid"] for run in evidence.began("poison")}) == 3
    cause = "SIGSEGV" if poison is does.segfault else "exited with status 1"
    assert cause in str(dead.value)
    assert [letter.key for letter in docket.dead_letters()] == ["poison"]
    eventually(lambda: supervisor.titled("quarantine") == [])
    assert supervisor.stop() == 0
    docket.purge_dead()


def test_a_stopped_steward_is_replaced_and_its_orders_are_carried_out(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "2")
    go = tmp_path / "go"
    docket.add(does.wait_for, key="interrupted")(str(go))
    pid = evidence.running_in("interrupted")
    (steward,) = supervisor.titled("steward")
    os.kill(steward, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    supervisor.logged(f"steward {steward} has not turned its loop for", patience=20.0)
    evidence.running_in("interrupted", times=2)
    go.touch()
    eventually(lambda: evidence.ended("interrupted"))
    assert gone(steward) and supervisor.stop() == 0


def test_a_stopped_template_is_replaced_when_a_worker_is_wanted_of_it(
    docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "2")
    eventually(lambda: supervisor.titled("spare"))
    (template,) = supervisor.titled("template")
    os.kill(template, signal.SIGSTOP)
    (first, second) = supervisor.titled("worker")
    for pid in (first, second):
        os.kill(pid, signal.SIGKILL)
    supervisor.logged(f"template {template} does not fork what it was asked for", patience=15.0)
    eventually(lambda: len(supervisor.titled("worker")) == 2)
    docket.add(does.note, key="after")().get_result()
    assert gone(template) and supervisor.stop() == 0


def test_a_dead_letter_that_is_retried_runs_with_a_clean_record(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "2", "--max-crashes", "2")
    antidote = tmp_path / "antidote"
    execution = docket.add(does.exit_unless, key="poison")(str(antidote))
    with pytest.raises(DeadLetter, match="exited with status 1"):
        execution.get_result()
    assert len(evidence.began("poison")) == 2
    antidote.touch()
    retried = subprocess.run(
        [
            sys.executable,
            "-m",
            "docket",
            "dead",
            "retry",
            "poison",
            "--docket",
            docket.name,
            "--url",
            docket.url,
        ],
        env={**os.environ, "PYTHONPATH": source_path()},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert retried.returncode == 0 and "Put 1 of 1 dead letters back in line" in retried.stdout
    eventually(lambda: evidence.ended("poison"))
    execution.get_result()
    execution.sync()
    assert (execution.state, execution.crashes, execution.attempt) == ("completed", 0, 1)
    assert supervisor.stop() == 0


def test_with_more_poison_than_processes_the_service_goes_on(
    docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "2")
    poison = [docket.add(does.segfault, key=f"poison-{number}")() for number in range(4)]
    notes = [docket.add(does.note, key=f"note-{number}")() for number in range(50)]
    for culprit in poison:
        with pytest.raises(DeadLetter):
            culprit.get_result()
    for note in notes:
        note.get_result()
    for culprit in poison:
        assert len(evidence.began(culprit.key)) <= 3
    assert supervisor.stop() == 0
    docket.purge_dead()


def test_a_program_that_a_task_started_ends_with_its_worker(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "1")
    go = tmp_path / "go"
    docket.add(does.start_a_program, key="starter")(str(go))
    (line,) = eventually(lambda: evidence.lines("program"))
    go.touch()
    os.kill(line["pid"], signal.SIGKILL)
    eventually(lambda: gone(line["program"]), "the end of the program", patience=3.0)
    docket.get_execution("starter")
    assert supervisor.stop() == 0
    for again in evidence.lines("program"):
        assert gone(again["program"])
