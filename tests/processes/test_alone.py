"""`docket worker`, which nobody supervises: a sync task that will not end costs it its threads, not its work."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.evidence import VARIABLE
from tests.processes.fleet import Evidence, eventually, gone
from tests.supervisor.service import source_path

LIMIT = timedelta(seconds=60)
Start = Callable[..., "Alone"]


class Alone:
    """One worker in a process of its own."""

    def __init__(self, url: str, docket: str, evidence: Evidence, log: Path, *options: str) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DOCKET_")}
        self.log_path = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "docket", "worker", "--url", url, "--docket", docket),
                    *("--tasks", "tests.processes.evidence:tasks", *options),
                ],
                stderr=output,
                stdout=output,
                stdin=subprocess.DEVNULL,
                env={**inherited, "PYTHONPATH": source_path(), VARIABLE: str(evidence.path)},
            )

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")


@pytest.fixture
def alone(url: str, docket_name: str, evidence: Evidence, tmp_path: Path) -> Iterator[Start]:
    started: list[Alone] = []

    def start(*options: str) -> Alone:
        started.append(Alone(url, docket_name, evidence, tmp_path / f"alone-{len(started)}", *options))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()


def test_it_ends_its_threads_settles_what_was_late_and_begins_anew(
    docket: Docket, alone: Start, evidence: Evidence, tmp_path: Path
) -> None:
    worker = alone()
    go = tmp_path / "go"
    late = docket.add(does.sleep_for_ever_within_a_second, key="late")()
    neighbour = docket.add(does.wait_for, key="neighbour")(str(go))
    pid = evidence.running_in("late")
    assert evidence.running_in("neighbour") == pid == worker.process.pid
    eventually(lambda: "there is no supervisor to replace this process" in worker.log())
    late.sync()
    assert late.state == "running", "its thread is still there"
    go.touch()
    neighbour.get_result()
    with pytest.raises(TimeoutError, match="it ran longer than 0:00:01"):
        late.get_result(timeout=LIMIT)
    docket.add(does.note, key="after")().get_result(timeout=LIMIT)
    assert evidence.running_in("after") == pid, "another program in the same process"
    late.sync()
    assert (late.state, late.attempt, late.crashes, len(evidence.began("late"))) == ("failed", 1, 0, 1)
    assert evidence.ran_once("neighbour")
    assert "1 of 10 threads are abandoned" in worker.log()
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(15) == 0


def test_what_a_thread_still_runs_when_it_leaves_is_handed_back_after_the_thread_has_ended(
    docket: Docket, alone: Start, evidence: Evidence, tmp_path: Path
) -> None:
    worker = alone("--drain-timeout", "500ms")
    go = tmp_path / "go"
    execution = docket.add(does.sleep_on, key="deaf")(str(go))
    first = evidence.running_in("deaf")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(20) == 7
    execution.sync()
    assert (execution.state, execution.crashes, execution.attempt) == ("queued", 0, 1)
    go.touch()
    second = alone()
    execution.get_result(timeout=LIMIT)
    assert evidence.running_in("deaf", times=2) == second.process.pid != first and gone(first)


def test_usr1_writes_its_stacks_to_standard_error(
    docket: Docket, alone: Start, evidence: Evidence, tmp_path: Path
) -> None:
    worker = alone()
    go = tmp_path / "go"
    docket.add(does.wait_for, key="on-the-loop")(str(go))
    docket.add(does.wait_for_sync, key="in-a-thread")(str(go))
    evidence.running_in("on-the-loop")
    evidence.running_in("in-a-thread")
    worker.process.send_signal(signal.SIGUSR1)
    eventually(lambda: "asyncio tasks: " in worker.log() and "  on-the-loop:\n" in worker.log())
    assert re.search(r"in wait_for_sync\n", worker.log())
    assert psutil.pid_exists(worker.process.pid)
    go.touch()
