"""Poison that ends its process in a way that looks as if the worker had meant it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from docket.errors import DeadLetter
from docket.sync import Docket
from tests.processes import endings_app as does
from tests.processes.fleet import Evidence, Supervisor, eventually

Supervise = Callable[..., Supervisor]
LIMIT = timedelta(seconds=60)


@pytest.mark.parametrize(
    ("poison", "argument", "cause"),
    [
        (does.exit_with, 0, "exited with status 0"),
        (does.exit_with, 2, "exited with status 2"),
        (does.exit_in_a_thread_with, 2, "exited with status 2"),
        (does.exit_in_a_thread_with, 7, "exited with status 7"),
        (does.signal_its_worker, signal.SIGTERM, "it was told to leave, not by us"),
        (does.signal_its_worker, signal.SIGINT, "it was told to leave, not by us"),
        (does.signal_its_worker, signal.SIGSTOP, "it had been stopped"),
    ],
    ids=["0", "2", "thread-2", "thread-7", "TERM", "INT", "STOP"],
)
def test_it_starts_three_times_costs_no_innocent_its_record_and_the_service_stays_up(
    poison: Callable[..., Any],
    argument: int,
    cause: str,
    docket: Docket,
    supervise: Supervise,
    evidence: Evidence,
    tmp_path: Path,
) -> None:
    for task in does.tasks:
        docket.register(task)
    supervisor = supervise(
        *("--processes", "1", "--concurrency", "4", "--hang-timeout", "2s", "--drain-timeout", "1s"),
        tasks="tests.processes.endings_app:tasks",
    )
    go = tmp_path / "go"
    innocent = docket.add(does.wait_for, key="innocent")(str(go))
    beside = evidence.running_in("innocent")
    culprit = docket.add(poison, key="poison")(int(argument))
    assert evidence.running_in("poison") == beside
    eventually(lambda: supervisor.titled("quarantine"))
    go.touch()
    with pytest.raises(DeadLetter, match=cause):
        culprit.get_result(timeout=LIMIT)
    innocent.get_result(timeout=LIMIT)
    innocent.sync()
    assert (innocent.state, innocent.crashes, innocent.attempt) == ("completed", 0, 1)
    assert len(evidence.began("poison")) == 3 and len(evidence.began("innocent")) == 2
    docket.add(does.note, key="after")().get_result(timeout=LIMIT)
    assert supervisor.stop() == 0
    docket.purge_dead()


def test_what_ends_in_time_in_a_worker_that_somebody_tells_to_leave_is_settled(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "1")
    go = tmp_path / "go"
    execution = docket.add(does.wait_for, key="running")(str(go))
    pid = evidence.running_in("running")
    os.kill(pid, signal.SIGTERM)
    supervisor.logged(f"{pid} was told to leave, and not by us; it runs running (wait_for), which has 30s")
    later = docket.add(does.note, key="later")()
    go.touch()
    assert execution.get_result() == str(pid)
    later.get_result()
    assert evidence.ran_once("running") and evidence.running_in("later") != pid
    assert supervisor.stop() == 0
