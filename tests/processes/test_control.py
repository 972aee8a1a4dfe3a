"""A running service is looked at and steered with the same program that started it."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.fleet import Evidence, Supervisor, eventually, gone

Supervise = Callable[..., Supervisor]


def test_the_control_socket_is_for_its_user_alone_and_goes_with_the_service(
    supervise: Supervise, docket_name: str, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "1")
    path = tmp_path / f"docket-{docket_name}-{supervisor.pid}.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert supervisor.stop() == 0
    assert not path.exists()


def test_scale_returns_on_acceptance_and_with_wait_when_it_is_done(supervise: Supervise) -> None:
    supervisor = supervise("--processes", "1", "--max-processes", "3")
    assert supervisor.told("scale", "3", "--wait").returncode == 0
    assert len(supervisor.titled("worker")) == 3
    assert supervisor.told("scale", "1").returncode == 0
    eventually(lambda: len(supervisor.titled("worker")) == 1)
    refused = supervisor.told("scale", "4")
    assert (refused.returncode, refused.stderr) == (
        1,
        "docket-supervise: expected between 1 and 3 processes, got 4\n",
    )
    assert supervisor.told("scale", "many").returncode == 2
    assert supervisor.stop() == 0


def test_scale_with_wait_waits_for_those_that_drain(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "2", "--concurrency", "1")
    go = tmp_path / "go"
    for number in range(2):
        docket.add(does.wait_for, key=f"running-{number}")(str(go))
        evidence.running_in(f"running-{number}")
    assert supervisor.told("scale", "1").returncode == 0
    go.touch()
    assert supervisor.told("scale", "1", "--wait").returncode == 0
    assert len(supervisor.titled("worker")) == 1
    assert supervisor.stop() == 0


def test_quiet_and_resume(docket: Docket, supervise: Supervise, evidence: Evidence) -> None:
    supervisor = supervise("--processes", "2")
    assert supervisor.told("quiet", "--wait").returncode == 0
    later = docket.add(does.note, key="later")()
    assert supervisor.told("quiet").returncode == 0
    assert evidence.began("later") == []
    assert supervisor.told("resume", "--wait").returncode == 0
    later.get_result()
    assert supervisor.stop() == 0


def test_reload_returns_on_acceptance_and_with_wait_when_the_new_code_is_in_service_or_was_undone(
    supervise: Supervise, tmp_path: Path
) -> None:
    app = tmp_path / "rolled_app.py"
    app.write_text("tasks = [print]\n")
    supervisor = supervise(
        *("--processes", "2", "--canary", "100ms"),
        *("--app-dir", str(tmp_path), "--tasks", "rolled_app:tasks"),
    )
    before = set(supervisor.titled("worker"))
    assert supervisor.told("reload", "--wait").returncode == 0
    assert not before & set(supervisor.titled("worker"))
    assert all(" gen 2 " in title for title in supervisor.titles("worker"))
    app.write_text("raise RuntimeError('broken')\n")
    assert supervisor.told("reload").returncode == 0
    undone = supervisor.told("reload", "--wait")
    assert undone.returncode == 1 and "RuntimeError: broken" in supervisor.log()
    assert json.loads(supervisor.told("status", "--json").stdout)["supervisor"]["generation"] == 2
    assert supervisor.stop() == 0


def test_scale_is_refused_while_a_reload_goes_on(supervise: Supervise) -> None:
    supervisor = supervise("--processes", "1", "--canary", "20s")
    assert supervisor.told("reload").returncode == 0
    refused = supervisor.told("scale", "2")
    assert (refused.returncode, refused.stderr) == (
        1,
        "docket-supervise: a rolling restart is going on\n",
    )
    assert supervisor.stop() == 0


def test_stacks_of_every_process_are_in_the_log_when_the_command_has_waited_for_them(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "2")
    go = tmp_path / "go"
    docket.add(does.wait_for_sync, key="in-a-thread")(str(go))
    evidence.running_in("in-a-thread")
    assert supervisor.told("stacks", "--wait").returncode == 0
    log = supervisor.log()
    for title in ("supervisor", "steward", "template", "worker [0]", "worker [1]"):
        assert f"stacks of {title}" in log
    assert "in wait_for_sync" in log and "running: 2 of 2 workers ready, busy 0+1/20" in log
    go.touch()
    assert supervisor.stop() == 0


def test_status_tells_what_runs_where(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "2", "--concurrency", "3", "--threads", "2")
    go = tmp_path / "go"
    docket.add(does.wait_for, key="on-the-loop")(str(go))
    docket.add(does.wait_for_sync, key="in-a-thread")(str(go))
    pids = {evidence.running_in("on-the-loop"), evidence.running_in("in-a-thread")}
    status = json.loads(supervisor.told("status", "--json").stdout)
    assert status["supervisor"]["pid"] == supervisor.pid and status["supervisor"]["phase"] == "running"
    assert [status["steward"]["pid"]] == supervisor.titled("steward")
    assert [status["template"]["pid"]] == supervisor.titled("template")
    assert status["template"]["modules"] == ["tests.processes.evidence"]
    assert {slot["pid"] for slot in status["slots"]} == set(supervisor.titled("worker")) >= pids
    assert [(slot["slot"], slot["state"]) for slot in status["slots"]] == [(0, "working"), (1, "working")]
    assert {(slot["concurrency"], slot["threads"]) for slot in status["slots"]} == {(3, 2)}
    running = {each["key"]: each for slot in status["slots"] for each in slot["running"]}
    assert running["on-the-loop"]["where"] == "loop" and running["in-a-thread"]["where"] == "thread"
    assert running["on-the-loop"]["task"] == "wait_for" and running["on-the-loop"]["age_s"] < 15
    assert all(slot["private_bytes"] > 1_000_000 and slot["last_death"] is None for slot in status["slots"])
    shown = supervisor.told("status").stdout
    assert "on-the-loop (wait_for)" in shown and "1 completed" not in shown
    assert "docket " in supervisor.told("top").stdout
    go.touch()
    assert supervisor.stop() == 0


def test_status_remembers_the_deaths_and_the_counts_of_workers_that_are_gone(
    docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "1")
    docket.add(does.note, key="note")().get_result()
    (pid,) = supervisor.titled("worker")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: supervisor.titled("worker") not in ([], [pid]))

    def told() -> dict[str, Any]:
        return json.loads(supervisor.told("status", "--json").stdout)

    eventually(lambda: told()["slots"][0]["state"] == "working")
    (slot,) = told()["slots"]
    assert slot["restarts"] == 1 and "SIGKILL" in slot["last_death"]["cause"]
    assert told()["totals"] == {"started": 1, "completed": 1, "failed": 0, "redelivered": 0}
    eventually(lambda: told()["queue"]["due"] == 0 and told()["queue"]["latency_s"] == 0)
    assert supervisor.stop() == 0


def test_stop_drains_and_with_wait_returns_when_the_service_is_gone(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "1")
    go = tmp_path / "go"
    execution = docket.add(does.wait_for, key="running")(str(go))
    evidence.running_in("running")
    assert supervisor.told("stop").returncode == 0
    supervisor.logged("draining")
    refused = supervisor.told("scale", "2")
    assert (refused.returncode, refused.stderr) == (1, "docket-supervise: the service is draining\n")
    everybody = supervisor.everybody()
    go.touch()
    supervisor.told("stop", "--wait")
    assert all(gone(pid) for pid in (*everybody, supervisor.pid))
    assert supervisor.ends() == 0
    assert execution.get_result()


def test_where_there_is_no_supervisor_the_exit_code_is_4(supervise: Supervise) -> None:
    supervisor = supervise("--processes", "1")
    assert supervisor.stop() == 0
    for verb in ("status", "quiet", "stop", "top"):
        told = supervisor.told(verb)
        assert told.returncode == 4 and "there is no supervisor" in told.stderr, verb


def test_of_two_supervisors_the_one_that_is_meant_must_be_named(
    supervise: Supervise, docket_name: str
) -> None:
    first = supervise("--processes", "1", "--docket", f"{docket_name}-a")
    second = supervise("--processes", "1", "--docket", f"{docket_name}-b")
    assert first.told("quiet").returncode == 1
    assert first.told("quiet", "--docket", f"{docket_name}-b", "--wait").returncode == 0
    assert first.told("quiet", "--pid", str(first.pid), "--wait").returncode == 0
    assert "all workers are quiet" in second.log() and "all workers are quiet" in first.log()
    assert (first.stop(), second.stop()) == (0, 0)


def test_options_of_the_service_do_not_stand_before_a_command(supervise: Supervise) -> None:
    supervisor = supervise("--processes", "1")
    told = supervisor.told("--docket", "x", "status")
    assert (told.returncode, told.stderr) == (
        2,
        "docket-supervise: expected --docket after status: options follow the command\n",
    )
    assert supervisor.stop() == 0


def test_a_control_socket_that_is_in_use_ends_a_second_service_with_8(
    supervise: Supervise, short_folder: Path
) -> None:
    path = str(short_folder / "control.sock")
    first = supervise("--processes", "1", "--control-socket", path)
    second = supervise("--processes", "1", "--control-socket", path, ready=False)
    assert second.ends() == 8 and "in use by a supervisor that is running" in second.log()
    assert first.told("quiet", "--control-socket", path, "--wait").returncode == 0
    first.signal(signal.SIGKILL)
    first.ends()
    third = supervise("--processes", "1", "--control-socket", path)
    assert third.stop() == 0


def test_a_pidfile_that_is_held_ends_a_second_service_with_8(supervise: Supervise, tmp_path: Path) -> None:
    path = tmp_path / "docket.pid"
    first = supervise("--processes", "1", "--pidfile", str(path))
    assert path.read_text() == f"{first.pid}\n"
    second = supervise("--processes", "1", "--pidfile", str(path), ready=False)
    assert second.ends() == 8 and f"held by process {first.pid}" in second.log()
    assert first.stop() == 0
    assert not path.exists()


def test_a_pidfile_outlives_a_killed_supervisor_and_is_taken_over(
    supervise: Supervise, tmp_path: Path
) -> None:
    path = tmp_path / "docket.pid"
    first = supervise("--processes", "1", "--pidfile", str(path))
    first.signal(signal.SIGKILL)
    first.ends()
    second = supervise("--processes", "1", "--pidfile", str(path))
    assert path.read_text() == f"{second.pid}\n"
    assert second.stop() == 0


@pytest.mark.parametrize("option", ["--pidfile", "--control-socket"])
def test_garbage_where_they_are_to_be_ends_the_service_with_8_and_a_sentence(
    option: str, supervise: Supervise, tmp_path: Path
) -> None:
    path = tmp_path / "garbage"
    path.write_text("garbage\n")
    supervisor = supervise("--processes", "1", option, str(path), ready=False)
    assert supervisor.ends() == 8
    assert "expected " in supervisor.log() and "Traceback" not in supervisor.log()
    assert path.read_text() == "garbage\n"


@pytest.mark.parametrize("option", ["--pidfile", "--control-socket"])
def test_a_place_that_cannot_be_written_ends_the_service_with_2(option: str, supervise: Supervise) -> None:
    supervisor = supervise("--processes", "1", option, "/proc/nowhere/file", ready=False)
    assert supervisor.ends() == 2 and f"expected {option} to be" in supervisor.log()


def test_tasks_find_none_of_the_variables_that_are_meant_for_the_supervisor(
    docket: Docket,
    supervise: Supervise,
    evidence: Evidence,
    short_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for preload in ("--preload", "--no-preload"):
        monkeypatch.setenv("NOTIFY_SOCKET", str(short_folder / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "30000000")
        supervisor = supervise(
            *("--processes", "1", preload), DOCKET_CONTROL_SOCKET=str(short_folder / "control.sock")
        )
        told = json.loads(docket.add(does.environment, key=f"environment{preload}")().get_result())
        for own in (told["ours"], told["program's"]):
            assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "DOCKET_CONTROL_SOCKET"} & set(own)
        assert os.path.exists(short_folder / "control.sock")
        assert supervisor.stop() == 0
