"""Services and workers that were started without standard descriptors, as `>&-` and some launchers do it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.fleet import Supervisor, eventually
from tests.supervisor.service import source_path

Supervise = Callable[..., Supervisor]


def standard_files(pid: int) -> list[str]:
    return [os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1, 2)]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_a_service_that_was_started_without_them(supervise: Supervise, docket: Docket, closed: str) -> None:
    """Its memory does not get their numbers, where whatever a task prints would be written into it; and event loops do
    not close what they take for them, which ended every worker by SIGABRT."""
    through = ("sh", "-c", f'exec "$@" {closed}', "sh")
    supervisor = supervise("--processes", "1", "--health-port", "0", through=through)
    for pid in (supervisor.pid, *supervisor.everybody()):
        files = standard_files(pid)
        assert files[0] == "/dev/null" and files[1] in ("/dev/null", files[2]), files
    docket.add(does.note)().get_result()
    (worker,) = supervisor.titled("worker")
    supervisor.signal(signal.SIGHUP)
    eventually(lambda: supervisor.titled("worker") not in ([], [worker]), "another worker")
    supervisor.logged("is in service")
    assert supervisor.stop() == 0
    assert "SIGABRT" not in supervisor.log() and "Assertion" not in supervisor.log()


@pytest.mark.parametrize("closed", ["<&- >&-", "<&- >&- 2>&-"])
def test_a_worker_alone_that_was_started_without_them(url: str, docket_name: str, closed: str) -> None:
    with Docket(name=docket_name, url=url) as docket:
        docket.register(does.note)
        command = [sys.executable, "-m", "docket", "worker", "--tasks", "docket.tasks:standard_tasks"]
        where = ["--docket", docket_name, "--url", url, "--until-finished"]
        ran = subprocess.run(
            ["sh", "-c", f'exec "$@" {closed}', "sh", *command, *where],
            env={**os.environ, "PYTHONPATH": source_path()},
            timeout=60,
        )
    assert ran.returncode == 0
