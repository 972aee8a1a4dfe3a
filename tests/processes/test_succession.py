"""USR2: the supervisor itself is replaced, in its process, and nobody's work notices."""

from __future__ import annotations

import json
import os
import signal
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.fleet import Evidence, Supervisor, eventually, gone
from tests.processes.load import constant_load
from tests.processes.test_rolling import PRELOAD, QUICK, generations, reloaded

Supervise = Callable[..., Supervisor]


def went_on(supervisor: Supervisor, times: int = 1) -> None:
    eventually(lambda: supervisor.log().count("goes on with docket") == times, "another program", patience=30)


@pytest.mark.timeout(120)
@PRELOAD
def test_a_re_executed_supervisor_loses_nothing_and_runs_nothing_twice(
    preload: str, docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "2", "--concurrency", "5", preload, *QUICK)
    with constant_load(docket, evidence):
        before = set(supervisor.titled("worker"))
        for times in (1, 2):
            supervisor.signal(signal.SIGUSR2)
            went_on(supervisor, times)
            reloaded(supervisor, times)
        assert generations(supervisor) == [3, 3] and all(gone(pid) for pid in before)
        assert supervisor.process.poll() is None
    assert supervisor.stop() == 0
    assert "handed over" not in supervisor.log() and "lapsed" not in supervisor.log()


@pytest.mark.parametrize("task", [does.wait_for, does.wait_for_sync], ids=["async", "sync"])
def test_what_runs_meanwhile_keeps_its_lease_and_is_finished_where_it_runs(
    task: Callable[[str], str], docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "2", "--redelivery-timeout", "1s", *QUICK)
    go = tmp_path / "go"
    execution = docket.add(task, key="running")(str(go))
    first = evidence.running_in("running")
    supervisor.signal(signal.SIGUSR2)
    went_on(supervisor)
    eventually(lambda: 2 in generations(supervisor))
    docket.add(does.note, key="meanwhile")().get_result()
    assert not gone(first)
    go.touch()
    assert execution.get_result() == str(first)
    reloaded(supervisor)
    assert evidence.ran_once("running") and gone(first)
    assert supervisor.stop() == 0


def test_a_worker_that_is_killed_after_the_change_has_its_work_run_again(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "1", "--canary", "60s")
    go = tmp_path / "go"
    execution = docket.add(does.wait_for, key="interrupted")(str(go))
    first = evidence.running_in("interrupted")
    supervisor.signal(signal.SIGUSR2)
    went_on(supervisor)
    os.kill(first, signal.SIGKILL)
    second = evidence.running_in("interrupted", times=2)
    go.touch()
    assert execution.get_result() == str(second)
    execution.sync()
    assert (execution.attempt, execution.crashes) == (1, 0)
    assert supervisor.stop() == 0


def test_the_pidfile_the_health_port_and_the_counters_stay(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    pidfile = tmp_path / "pid"
    supervisor = supervise("--processes", "2", "--health-port", "0", "--pidfile", str(pidfile), *QUICK)
    port = supervisor.port()

    def status() -> dict[str, dict[str, object]]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5) as answer:
            return json.load(answer)

    for number in range(5):
        docket.add(does.note, key=f"before-{number}")().get_result()
    eventually(lambda: status()["totals"]["completed"] == 5)
    supervisor.signal(signal.SIGUSR2)
    went_on(supervisor)
    reloaded(supervisor)
    eventually(lambda: status()["supervisor"]["generation"] == 2)
    assert status()["supervisor"]["pid"] == supervisor.pid
    assert status()["totals"]["completed"] == 5
    assert pidfile.read_text().strip() == str(supervisor.pid)
    assert supervisor.stop() == 0
    assert not pidfile.exists()


def test_systemd_is_told_the_main_process_and_that_it_is_ready(
    docket: Docket, supervise: Supervise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        supervisor = supervise("--processes", "1", *QUICK)
        supervisor.signal(signal.SIGUSR2)
        while f"MAINPID={supervisor.pid}" not in (told := listener.recv(4096).decode().split("\n")):
            pass
        assert "READY=1" in told
        assert supervisor.stop() == 0


def test_a_task_finds_nothing_of_the_change_in_its_environment(docket: Docket, supervise: Supervise) -> None:
    supervisor = supervise("--processes", "1", *QUICK)
    supervisor.signal(signal.SIGUSR2)
    reloaded(supervisor)
    found = json.loads(docket.add(does.environment)().get_result())
    assert not [name for names in found.values() for name in names if "ESTATE" in name or "LAYOUT" in name]
    assert supervisor.stop() == 0


def test_nothing_is_replaced_when_the_new_program_cannot_start(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    """What an upgrade that went wrong looks like: the options are refused, or nothing can be imported at all."""
    app = tmp_path / "app"
    app.mkdir()
    supervisor = supervise("--processes", "1", "--app-dir", str(app), *QUICK)
    before = supervisor.everybody()
    app.rmdir()
    supervisor.signal(signal.SIGUSR2)
    supervisor.logged("not re-executing: the new program exited with status 2 instead of starting")
    assert psutil.Process(supervisor.pid).is_running() and set(before) <= set(supervisor.everybody())
    docket.add(does.note, key="after")().get_result()
    assert supervisor.stop() == 0
