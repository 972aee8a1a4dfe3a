"""What tasks have started ends in time however deep it is and whoever has died: worker, supervisor or steward."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from docket.sync import Docket
from tests.processes.families import start_a_family, start_a_family_and_block
from tests.processes.fleet import Evidence, Supervisor, eventually, gone

Supervise = Callable[..., Supervisor]

TASKS = "tests.processes.families:tasks"
PROMISED = 3.0
"""Seconds from a worker's death, and from the budget's end when the supervisor has died."""
SCRIPTS = {
    "obedient": "{0}",
    "deaf-parents": "trap '' TERM; {0}; {0}",
    "deaf-grandparents": "trap '' TERM; sh -c '{0}; {0}'; {0}",
}


class Family:
    """All that run one script, whoever their parents are by now: known by how long they sleep."""

    def __init__(self) -> None:
        self.sleep = f"sleep 1400.{time.time_ns()}"

    def script(self, kind: str) -> str:
        return SCRIPTS[kind].format(self.sleep)

    def members(self) -> list[int]:
        return [
            each.pid
            for each in psutil.process_iter(["cmdline", "status"])
            if self.sleep in " ".join(each.info["cmdline"] or ()) and not gone(each.pid)
        ]

    def sleeps(self) -> bool:
        """The whole script has been started."""
        return any(each.info["cmdline"] == self.sleep.split() for each in psutil.process_iter(["cmdline"]))


@pytest.fixture
def family() -> Iterator[Family]:
    family = Family()
    yield family
    while left := family.members():
        for pid in left:
            os.kill(pid, signal.SIGKILL)


def begin(
    docket: Docket, evidence: Evidence, family: Family, kind: str, apart: bool, go: Path, block: bool = False
) -> int:
    """The pid of the worker whose task has started the family."""
    task = start_a_family_and_block if block else start_a_family
    docket.add(task, key="starter")(family.script(kind), apart, str(go))
    (line,) = eventually(lambda: evidence.lines("program"))
    eventually(family.sleeps, "the start of the family")
    return line["pid"]


@pytest.mark.parametrize(
    ("kind", "apart"), [("deaf-parents", False), ("deaf-grandparents", False), ("deaf-grandparents", True)]
)
def test_a_family_ends_with_its_worker_however_deep_it_is(
    kind: str,
    apart: bool,
    docket: Docket,
    supervise: Supervise,
    evidence: Evidence,
    tmp_path: Path,
    family: Family,
) -> None:
    supervisor = supervise("--processes", "1", tasks=TASKS)
    go = tmp_path / "go"
    worker = begin(docket, evidence, family, kind, apart, go)
    go.touch()
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: not family.members(), "the end of the family", patience=PROMISED)
    assert supervisor.stop() == 0


@pytest.mark.parametrize(("kind", "apart"), [("deaf-parents", False), ("deaf-grandparents", True)])
def test_the_supervisor_does_not_leave_before_them(
    kind: str,
    apart: bool,
    docket: Docket,
    supervise: Supervise,
    evidence: Evidence,
    tmp_path: Path,
    family: Family,
) -> None:
    supervisor = supervise("--processes", "1", "--drain-timeout", "500ms", tasks=TASKS)
    begin(docket, evidence, family, kind, apart, tmp_path / "go")
    supervisor.signal(signal.SIGTERM)
    assert supervisor.ends() == 7
    assert family.members() == []
    docket.cancel("starter")


@pytest.mark.parametrize(("kind", "apart"), [("obedient", False), ("deaf-parents", True)])
def test_a_worker_that_the_steward_has_to_kill_leaves_nobody(
    kind: str,
    apart: bool,
    docket: Docket,
    supervise: Supervise,
    evidence: Evidence,
    tmp_path: Path,
    family: Family,
) -> None:
    supervisor = supervise("--processes", "1", "--drain-timeout", "1s", tasks=TASKS)
    begin(docket, evidence, family, kind, apart, tmp_path / "go", block=True)
    everybody = supervisor.everybody()
    supervisor.signal(signal.SIGKILL)
    started = time.monotonic()
    eventually(lambda: all(gone(one) for one in everybody) and not family.members(), "everybody has left")
    assert time.monotonic() - started < 1 + PROMISED + 0.5
    assert "killing worker" in supervisor.log()
    docket.cancel("starter")


@pytest.mark.parametrize(("steward_dies", "apart"), [(False, True), (True, False)])
def test_a_worker_that_leaves_after_its_supervisor_leaves_nobody(
    steward_dies: bool,
    apart: bool,
    docket: Docket,
    supervise: Supervise,
    evidence: Evidence,
    tmp_path: Path,
    family: Family,
) -> None:
    supervisor = supervise("--processes", "1", tasks=TASKS)
    go = tmp_path / "go"
    begin(docket, evidence, family, "deaf-parents", apart, go)
    everybody, stewards = supervisor.everybody(), supervisor.titled("steward")
    supervisor.signal(signal.SIGKILL)
    for one in stewards if steward_dies else ():
        os.kill(one, signal.SIGKILL)
    go.touch()
    eventually(
        lambda: all(gone(one) for one in everybody) and not family.members(),
        "everybody has left",
        patience=PROMISED + 0.5,
    )


def test_a_supervisor_that_dies_while_it_ends_them_is_followed_by_the_steward(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path, family: Family
) -> None:
    supervisor = supervise("--processes", "1", tasks=TASKS)
    go = tmp_path / "go"
    worker = begin(docket, evidence, family, "deaf-parents", False, go)
    go.touch()
    os.kill(worker, signal.SIGKILL)
    supervisor.logged(f"left behind by worker {worker}")
    supervisor.signal(signal.SIGKILL)
    eventually(lambda: not family.members(), "the end of the family", patience=PROMISED)


def test_what_runs_in_its_own_environment_is_known_by_its_session(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path, family: Family
) -> None:
    supervisor = supervise("--processes", "1", "--drain-timeout", "1s", tasks=TASKS)
    script = f"trap '' TERM; env -i {family.sleep}; env -i {family.sleep}"
    docket.add(start_a_family_and_block, key="starter")(script, False, str(tmp_path / "go"))
    eventually(family.sleeps, "the start of the family")
    supervisor.signal(signal.SIGKILL)
    eventually(lambda: not family.members(), "the end of the family", patience=1 + PROMISED + 0.5)
    docket.cancel("starter")
