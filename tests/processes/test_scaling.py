"""`--processes min..max`: as many processes as the work needs."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.fleet import Evidence, Supervisor, eventually
from tests.processes.test_rolling import QUICK

Supervise = Callable[..., Supervisor]


def test_processes_are_added_when_work_waits_and_taken_away_when_there_is_none(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "1..3", "--concurrency", "1")
    go = tmp_path / "go"
    executions = [docket.add(does.wait_for, key=f"long-{number}")(str(go)) for number in range(3)]
    eventually(lambda: len(evidence.lines("began")) == 3, "all at work", patience=25)
    assert len(supervisor.titled("worker")) == 3
    assert "scaling from 1 to 2 processes: the oldest of 2 due for" in supervisor.log()
    go.touch()
    assert len({execution.get_result() for execution in executions}) == 3
    eventually(lambda: len(supervisor.titled("worker")) < 3, "one less", patience=40)
    assert "processes: nothing waits, 0 of 3 places are busy" in supervisor.log()
    assert supervisor.stop() == 0


def test_a_number_asked_for_by_hand_holds_until_the_work_decides_again(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    """A new program of the supervisor's knows of it."""
    supervisor = supervise("--processes", "1..3", "--concurrency", "1", *QUICK)
    go = tmp_path / "go"
    supervisor.signal(signal.SIGTTIN)
    supervisor.logged("all workers are ready: 2")
    supervisor.signal(signal.SIGUSR2)
    eventually(lambda: "generation 2 is in service" in supervisor.log(), "another program", patience=30)
    for number in range(4):
        docket.add(does.wait_for, key=f"long-{number}")(str(go))
    eventually(lambda: len(evidence.lines("began")) == 2)
    # Longer than it takes to grow.
    until = time.monotonic() + 6.0
    eventually(lambda: time.monotonic() >= until)
    assert len(evidence.lines("began")) == 2 and " due for" not in supervisor.log()
    assert supervisor.told("scale", "auto").returncode == 0
    eventually(lambda: " due for" in supervisor.log(), "more of them", patience=25)
    go.touch()
    assert supervisor.stop() == 0


def test_without_a_range_there_is_nothing_to_choose_from(supervise: Supervise) -> None:
    supervisor = supervise("--processes", "1", "--max-processes", "3")
    refused = supervisor.told("scale", "auto")
    assert refused.returncode == 1 and "no range to choose from" in refused.stderr
    assert supervisor.stop() == 0
