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


class Scene:
    """A service of one process, and the family that its task has started: all that run one script, whoever their
    parents are by now. They are known by how long they sleep."""

    def __init__(self, docket: Docket, supervise: Supervise, evidence: Evidence, go: Path) -> None:
        self.sleep = f"sleep 1400.{time.time_ns()}"
        self._docket, self._supervise, self._evidence, self._go = docket, supervise, evidence, go

    def begin(
        self, script: str, *options: str, apart: bool = False, block: bool = False
    ) -> tuple[Supervisor, int]:
        """The service, and the pid of its worker. `script`: one of SCRIPTS, or any that sleeps like `self.sleep`."""
        supervisor = self._supervise("--processes", "1", *options, tasks=TASKS)
        task = start_a_family_and_block if block else start_a_family
        script = SCRIPTS.get(script, script).format(self.sleep)
        self._docket.add(task, key="starter")(script, apart, str(self._go))
        (line,) = eventually(lambda: self._evidence.lines("program"))
        eventually(self._sleeps, "the start of the family")
        return supervisor, line["pid"]

    def go(self) -> None:
        """The task may end, and leave its family behind."""
        self._go.touch()

    def family(self) -> list[int]:
        return [
            each.pid
            for each in psutil.process_iter(["cmdline", "status"])
            if self.sleep in " ".join(each.info["cmdline"] or ()) and not gone(each.pid)
        ]

    def family_ends(self, within: float) -> None:
        eventually(lambda: not self.family(), "the end of the family", patience=within)

    def everybody_leaves(self, supervisor: Supervisor, kill: Callable[[], None], within: float) -> None:
        """The supervisor, its workers, its steward and the family, after `kill`."""
        everybody = supervisor.everybody()
        kill()
        eventually(
            lambda: all(map(gone, everybody)) and not self.family(), "everybody has left", patience=within
        )

    def close(self) -> None:
        while left := self.family():
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        self._docket.cancel("starter")

    def _sleeps(self) -> bool:
        """The whole script has been started."""
        return any(each.info["cmdline"] == self.sleep.split() for each in psutil.process_iter(["cmdline"]))


@pytest.fixture
def scene(docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(docket, supervise, evidence, tmp_path / "go")
    yield scene
    scene.close()


@pytest.mark.parametrize(
    ("kind", "apart"), [("deaf-parents", False), ("deaf-grandparents", False), ("deaf-grandparents", True)]
)
def test_a_family_ends_with_its_worker_however_deep_it_is(scene: Scene, kind: str, apart: bool) -> None:
    supervisor, worker = scene.begin(kind, apart=apart)
    scene.go()
    os.kill(worker, signal.SIGKILL)
    scene.family_ends(within=PROMISED)
    assert supervisor.stop() == 0


@pytest.mark.parametrize(("kind", "apart"), [("deaf-parents", False), ("deaf-grandparents", True)])
def test_the_supervisor_does_not_leave_before_them(scene: Scene, kind: str, apart: bool) -> None:
    supervisor, _ = scene.begin(kind, "--drain-timeout", "500ms", apart=apart)
    supervisor.signal(signal.SIGTERM)
    assert supervisor.ends() == 7
    assert scene.family() == []


@pytest.mark.parametrize(("kind", "apart"), [("obedient", False), ("deaf-parents", True)])
def test_a_worker_that_the_steward_has_to_kill_leaves_nobody(scene: Scene, kind: str, apart: bool) -> None:
    supervisor, _ = scene.begin(kind, "--drain-timeout", "1s", apart=apart, block=True)
    scene.everybody_leaves(supervisor, lambda: supervisor.signal(signal.SIGKILL), within=1 + PROMISED + 0.5)
    assert "killing worker" in supervisor.log()


@pytest.mark.parametrize(("steward_dies", "apart"), [(False, True), (True, False)])
def test_a_worker_that_leaves_after_its_supervisor_leaves_nobody(
    scene: Scene, steward_dies: bool, apart: bool
) -> None:
    supervisor, _ = scene.begin("deaf-parents", apart=apart)
    stewards = supervisor.titled("steward")

    def kill() -> None:
        supervisor.signal(signal.SIGKILL)
        for one in stewards if steward_dies else ():
            os.kill(one, signal.SIGKILL)
        scene.go()

    scene.everybody_leaves(supervisor, kill, within=PROMISED + 0.5)


def test_a_supervisor_that_dies_while_it_ends_them_is_followed_by_the_steward(scene: Scene) -> None:
    supervisor, worker = scene.begin("deaf-parents")
    scene.go()
    os.kill(worker, signal.SIGKILL)
    supervisor.logged(f"left behind by worker {worker}")
    supervisor.signal(signal.SIGKILL)
    scene.family_ends(within=PROMISED)


def test_what_runs_in_its_own_environment_is_known_by_its_session(scene: Scene) -> None:
    supervisor, _ = scene.begin("trap '' TERM; env -i {0}; env -i {0}", "--drain-timeout", "1s", block=True)
    supervisor.signal(signal.SIGKILL)
    scene.family_ends(within=1 + PROMISED + 0.5)
