"""As the first process of a container the supervisor is everybody's parent in the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.fleet import Evidence, Supervisor, eventually, gone

Supervise = Callable[..., Supervisor]

NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
STRANGERS = """
    (trap 'echo ended > "$ENDED"; exit' TERM; while :; do sleep 0.05; done) &
    (sleep 0.1) &
    exec "$@"
"""


def permitted() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True, timeout=20).returncode == 0


pytestmark = pytest.mark.skipif(not permitted(), reason="needs the right to make a pid namespace")


def first_process(supervisor: Supervisor) -> psutil.Process:
    (first,) = psutil.Process(supervisor.pid).children()
    return first


def test_pid_1_reaps_strangers_and_passes_the_term_on_to_them(supervise: Supervise, tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    supervisor = supervise(
        *("--processes", "2"), through=(*NAMESPACE, "sh", "-c", STRANGERS, "sh"), ENDED=str(ended)
    )
    first = first_process(supervisor)

    def zombies() -> list[psutil.Process]:
        return [each for each in first.children() if each.status() == psutil.STATUS_ZOMBIE]

    # Steward, template, two workers, a spare, and the stranger that stays; the one that has ended is no zombie either.
    eventually(lambda: len(first.children()) == 6 and not zombies(), f"{first.children()}")
    assert not ended.exists()
    first.send_signal(signal.SIGTERM)
    assert supervisor.ends() == 0
    assert ended.read_text() == "ended\n"
    assert "stranger" not in supervisor.log() and "Traceback" not in supervisor.log()


def test_pid_1_replaces_its_workers_and_drains_them_like_any_other(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "1", through=NAMESPACE)
    first = first_process(supervisor)
    go = tmp_path / "go"
    execution = docket.add(does.wait_for, key="running")(str(go))
    evidence.running_in("running")
    (worker,) = [each for each in first.children() if " worker " in " ".join(each.cmdline())]
    os.kill(worker.pid, signal.SIGKILL)
    evidence.running_in("running", times=2)
    first.send_signal(signal.SIGTERM)
    supervisor.logged("draining")
    go.touch()
    assert supervisor.ends() == 0
    assert gone(worker.pid) and execution.get_result()
