"""A worker that does not turn its loop: who blocks it is named, the others' work goes on, and nothing runs twice."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from docket.errors import DeadLetter
from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.fleet import Evidence, Supervisor, eventually, gone

Supervise = Callable[..., Supervisor]
LIMIT = timedelta(seconds=60)


def line_of(function: Callable[..., object], text: str) -> str:
    """`file:line` of the first line of this task with that text in it."""
    path = Path(does.__file__)
    first = function.__code__.co_firstlineno
    lines = path.read_text().splitlines()[first - 1 :]
    return f"{path}:{first + next(at for at, line in enumerate(lines) if text in line)}"


@pytest.mark.parametrize(
    ("task", "arguments", "text"),
    [(does.block_the_loop, (60,), "time.sleep"), (does.match_for_ever, (), "re.match")],
    ids=["asleep", "in a C call"],
)
def test_a_task_that_blocks_the_loop_for_too_long_is_named_killed_and_set_aside_and_no_innocent_is(
    task: Callable[..., object],
    arguments: tuple[object, ...],
    text: str,
    docket: Docket,
    supervise: Supervise,
    evidence: Evidence,
    tmp_path: Path,
) -> None:
    supervisor = supervise("--processes", "1", "--concurrency", "4", "--hang-timeout", "2s")
    go = tmp_path / "go"
    innocents = [
        docket.add((does.wait_for, does.wait_for_sync)[number % 2], key=f"innocent-{number}")(str(go))
        for number in range(2)
    ]
    for innocent in innocents:
        evidence.running_in(innocent.key)
    culprit = docket.add(task, key="blocker")(*arguments)
    pid = evidence.running_in("blocker")
    go.touch()
    with pytest.raises(DeadLetter) as dead:
        culprit.get_result(timeout=LIMIT)
    for innocent in innocents:
        innocent.get_result(timeout=LIMIT)
        innocent.sync()
        assert (innocent.state, innocent.crashes, innocent.attempt) == ("completed", 0, 1)
    at = line_of(task, text)
    log = supervisor.log()
    assert (
        f"blocker ({task.__name__}) blocks the loop of worker [0] {pid} at {at}; make it a plain def" in log
    )
    assert re.search(
        rf"{pid} killed by SIGKILL \(its loop had not turned for 2\.\d s, blocked at {re.escape(at)}\)", log
    )
    assert len(evidence.began("blocker")) == 3 and evidence.ended("blocker") == []
    for said in ("its loop had not turned", "private memory", "last stack", at):
        assert said in str(dead.value)
    # Stacks are waited for, so what comes next may be told before them.
    for steps in (["has not turned its loop", "goes to others"], [f"stacks of worker [0] {pid}"]):
        order = [log.index(step) for step in (*steps, f"killing worker [0] {pid}")]
        assert order == sorted(order)
    assert supervisor.stop() == 0
    docket.purge_dead()


def test_innocents_beside_a_blocker_are_not_tried_alone(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    """Four executions of one task in one worker: the stack tells which of them it is."""
    supervisor = supervise("--processes", "1", "--concurrency", "4", "--hang-timeout", "2s")
    go = tmp_path / "go"
    executions = [docket.add(does.wait_then_block, key=f"each-{number}")(str(go), 0) for number in range(3)]
    culprit = docket.add(does.wait_then_block, key="blocker")(str(go), 3600)
    for execution in (*executions, culprit):
        evidence.running_in(execution.key)
    go.touch()
    evidence.running_in("blocker", times=2)
    for execution in executions:
        execution.get_result(timeout=LIMIT)
        execution.sync()
        assert (execution.state, execution.crashes) == ("completed", 0)
    assert "0 returned, 1 suspect" in supervisor.log() or "1 suspect" in supervisor.log()
    assert not re.search(r"[2-9] suspect", supervisor.log())
    docket.cancel("blocker")
    for _ in range(3):
        supervisor.signal(signal.SIGTERM)
    supervisor.ends()


def test_a_short_block_is_told_with_its_duration_file_and_line(
    docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "2")
    docket.add(does.block_the_loop, key="short")(1.2).get_result()
    at = line_of(does.block_the_loop, "time.sleep")
    supervisor.logged(f" s at {at}; make it a plain def")
    assert re.search(r"short \(block_the_loop\) blocked the loop for 1\.[2-4] s at ", supervisor.log())
    assert evidence.ran_once("short")
    assert supervisor.stop() == 0


def test_what_a_blocked_worker_has_not_begun_runs_elsewhere_at_once(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    """Claimed in one breath with the blocker, so that the one worker there is holds all of it."""
    supervisor = supervise("--processes", "1", "--concurrency", "8", "--hang-timeout", "12s")
    executions = docket.add_many(
        [docket.call(does.block_the_loop, key="blocker")(9.0)]
        + [docket.call(does.note, key=f"note-{number}")() for number in range(7)]
    )
    blocked = evidence.running_in("blocker")
    supervise("--processes", "1", "--concurrency", "8")
    notes = [execution for execution in executions if execution.key != "blocker"]
    eventually(lambda: all(evidence.ended(note.key) for note in notes), "all notes have run", 8.0)
    assert evidence.ended("blocker") == []
    eventually(lambda: evidence.ended("blocker"), "the blocker ends", 15.0)
    eventually(lambda: "turns its loop again" in supervisor.log())
    assert all(evidence.ran_once(note.key) for note in notes) and evidence.ran_once("blocker")
    docket.add(does.note, key="after")().get_result()
    assert not gone(blocked)


def test_a_stopped_worker_is_noticed_and_after_the_hang_timeout_replaced_and_an_innocent_is_cleared(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "2", "--hang-timeout", "3s")
    go = tmp_path / "go"
    execution = docket.add(does.wait_for, key="frozen")(str(go))
    pid = evidence.running_in("frozen")
    os.kill(pid, signal.SIGSTOP)
    supervisor.logged("is stopped by a signal")
    second = evidence.running_in("frozen", times=2)
    assert second != pid and gone(pid)
    assert supervisor.titled("quarantine") == [second], "nobody can tell who sent that signal"
    go.touch()
    execution.get_result()
    execution.sync()
    assert (execution.state, execution.crashes, execution.redelivered) == ("completed", 0, True)
    assert re.search(rf"{pid} killed by SIGKILL \(it had been stopped for \d s\)", supervisor.log())
    assert supervisor.stop() == 0


def test_a_hang_timeout_of_zero_reports_and_kills_nobody(
    docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "1", "--hang-timeout", "0")
    docket.add(does.block_the_loop, key="long")(6.5).get_result(timeout=LIMIT)
    assert evidence.ran_once("long")
    assert "has not turned its loop" in supervisor.log() and "killing" not in supervisor.log()
    assert supervisor.stop() == 0


def test_a_slow_execution_is_reported_with_its_line_and_left_alone(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "1", "--slow-after", "1s")
    go = tmp_path / "go"
    executions = [
        docket.add(does.wait_for, key="slow-async")(str(go)),
        docket.add(does.wait_for_sync, key="slow-sync")(str(go)),
    ]
    for key, task, text in (
        ("slow-async", does.wait_for, "asyncio.sleep"),
        ("slow-sync", does.wait_for_sync, "while not"),
    ):
        supervisor.logged(f"{key} ({task.__name__}) has been running for 1s")
        path, _, number = line_of(task, text).rpartition(":")
        # The loop of the sync one is at one of its two lines.
        lines = [f"{path}:{int(number) + more}" for more in (0, 1)]
        line = next(
            line
            for line in supervisor.log().splitlines()
            if f"{key} (" in line and "has been running" in line
        )
        assert any(line.endswith(at) for at in lines), line
    assert "stacks of" not in supervisor.log()
    go.touch()
    for execution in executions:
        execution.get_result()
        assert evidence.ran_once(execution.key)
    assert supervisor.stop() == 0


def test_usr1_writes_the_stacks_of_every_process_to_the_log(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "2")
    go = tmp_path / "go"
    docket.add(does.wait_for, key="on-the-loop")(str(go))
    docket.add(does.wait_for_sync, key="in-a-thread")(str(go))
    evidence.running_in("on-the-loop")
    evidence.running_in("in-a-thread")
    eventually(lambda: supervisor.titled("spare"))
    supervisor.signal(signal.SIGUSR1)
    kinds = ["supervisor ", "steward ", "template ", "worker [0] ", "worker [1] ", "spare "]
    for kind in kinds:
        supervisor.logged(f"stacks of {kind}")
    eventually(lambda: supervisor.log().count("asyncio tasks: ") >= 3, "those of two workers and the steward")
    log = supervisor.log()
    assert "in wait_for_sync" in log and "  on-the-loop:\n" in log and "in wait_for\n" in log
    go.touch()
    assert supervisor.stop() == 0


def test_usr1_shows_the_stack_of_a_worker_whose_loop_is_blocked(
    docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "1")
    docket.add(does.block_the_loop, key="blocker")(4)
    evidence.running_in("blocker")
    supervisor.signal(signal.SIGUSR1)
    supervisor.logged("in block_the_loop", patience=2.0)
    assert evidence.ended("blocker") == []
    assert supervisor.stop() == 0


def test_quit_writes_the_stacks_before_everybody_ends(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "1")
    execution = docket.add(does.wait_for, key="interrupted")(str(tmp_path / "go"))
    evidence.running_in("interrupted")
    began = time.monotonic()
    supervisor.signal(signal.SIGQUIT)
    assert supervisor.ends() == 131
    assert time.monotonic() - began < 6
    assert "stacks of worker [0]" in supervisor.log() and "in wait_for\n" in supervisor.log()
    execution.sync()
    assert (execution.state, execution.crashes, execution.attempt) == ("queued", 0, 1)
    docket.cancel("interrupted")
