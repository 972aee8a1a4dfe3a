"""A worker that has left and does not end: its application waits for ever for something that it closes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from docket.sync import Docket
from tests.processes import closing_app as does
from tests.processes.fleet import Evidence, Supervisor, eventually

Supervise = Callable[..., Supervisor]
LIMIT = timedelta(seconds=60)
ONE = ("--processes", "1", "--drain-timeout", "1s")
APP = "tests.processes.closing_app:tasks"


def test_the_place_of_a_quarantine_process_is_not_lost_by_it(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    docket.register(does.kill_its_first_worker)
    supervisor = supervise(*ONE, tasks=APP)
    # There is one place: what comes later is run alone only when that is free again.
    for name in ("first", "second"):
        execution = docket.add(does.kill_its_first_worker, key=name)(str(tmp_path / name))
        execution.get_result(timeout=LIMIT)
        execution.sync()
        assert (execution.state, execution.crashes, execution.attempt) == ("completed", 0, 1)
        assert len(evidence.began(name)) == 2
    first = evidence.began("first")[1]["pid"]
    cause = f"{first} killed by SIGKILL (it had left, but its process had not ended after 1s)"
    eventually(lambda: cause in supervisor.log())
    stacks = supervisor.log().partition(f"stacks of quarantine {first}:")[2]
    assert "docket shared values" in stacks.partition("killing quarantine")[0], "what it waits for"
    assert supervisor.stop() == 0


def test_the_slot_of_a_worker_that_somebody_tells_to_leave_twice_is_not_lost_by_it(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    docket.register(does.kill_its_first_worker)
    supervisor = supervise(*ONE, tasks=APP)
    (tmp_path / "harmless").touch()
    docket.add(does.kill_its_first_worker, key="opens")(str(tmp_path / "harmless")).get_result(timeout=LIMIT)
    pid = evidence.running_in("opens")
    os.kill(pid, signal.SIGTERM)
    eventually(Path(f"{evidence.path}-closed").exists, "the end of its drain")
    os.kill(pid, signal.SIGTERM)
    supervisor.logged(f"{pid} killed by SIGKILL (it had left, but its process had not ended after 1s)")
    docket.add(does.note, key="after")().get_result(timeout=LIMIT)
    assert supervisor.stop() == 0
