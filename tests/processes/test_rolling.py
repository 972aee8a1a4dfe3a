"""HUP: the new code takes over worker by worker, and the work goes on."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.fleet import Evidence, Supervisor, eventually, gone
from tests.processes.load import constant_load

Supervise = Callable[..., Supervisor]
PRELOAD = pytest.mark.parametrize("preload", ["--preload", "--no-preload"])
QUICK = ("--canary", "300ms")


def generations(supervisor: Supervisor) -> list[int]:
    """Of all workers, as their titles tell."""
    found: list[int] = []
    for pid in supervisor.titled("worker"):
        try:
            shown = re.search(r" gen (\d+) ", " ".join(psutil.Process(pid).cmdline()))
        except psutil.Error:
            continue
        found += [int(shown[1])] if shown else []
    return sorted(found)


def reloaded(supervisor: Supervisor, times: int = 1) -> None:
    try:
        eventually(lambda: supervisor.log().count("is in service: ") >= times, patience=40)
    except AssertionError:
        raise AssertionError(f"not reloaded\n{supervisor.log()}") from None


@pytest.mark.timeout(120)
@PRELOAD
def test_a_roll_under_load_loses_nothing_and_runs_nothing_twice(
    preload: str, docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "2", "--concurrency", "5", preload, *QUICK)
    with constant_load(docket, evidence):
        before = set(supervisor.titled("worker"))
        for times in (1, 2):
            supervisor.signal(signal.SIGHUP)
            reloaded(supervisor, times)
        assert generations(supervisor) == [3, 3] and all(gone(pid) for pid in before)
    assert len({line["pid"] for line in evidence.lines("began")}) >= 6
    assert supervisor.stop() == 0
    assert "handed over" not in supervisor.log()


@pytest.mark.parametrize("task", [does.wait_for, does.wait_for_sync], ids=["async", "sync"])
def test_what_runs_when_its_worker_is_replaced_is_finished_there(
    task: Callable[[str], str], docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "2", "--redelivery-timeout", "1s", *QUICK)
    go = tmp_path / "go"
    execution = docket.add(task, key="running")(str(go))
    first = evidence.running_in("running")
    supervisor.signal(signal.SIGHUP)
    eventually(lambda: 2 in generations(supervisor))
    eventually(lambda: "draining" in supervisor.log() or len(supervisor.titled("worker")) == 3)
    # The new ones work meanwhile.
    docket.add(does.note, key="meanwhile")().get_result()
    assert not gone(first)
    go.touch()
    assert execution.get_result() == str(first)
    reloaded(supervisor)
    assert evidence.ran_once("running") and gone(first)
    assert supervisor.stop() == 0


def test_what_cannot_finish_within_the_drain_timeout_runs_again_in_a_new_worker_with_a_clean_record(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "1", "--drain-timeout", "500ms", *QUICK)
    go = tmp_path / "go"
    executions = [
        docket.add(does.wait_for, key="async")(str(go)),
        docket.add(does.wait_for_sync, key="sync")(str(go)),
    ]
    old = {evidence.running_in("async"), evidence.running_in("sync")}
    supervisor.signal(signal.SIGHUP)
    for execution in executions:
        assert evidence.running_in(execution.key, times=2) not in old
    go.touch()
    for execution in executions:
        execution.get_result()
        execution.sync()
        assert (execution.state, execution.attempt, execution.crashes) == ("completed", 1, 0)
    reloaded(supervisor)
    assert supervisor.stop() == 0


APP = """
from docket.dependencies import TaskKey

async def version() -> str:
    return "{version}"

tasks = [version]
"""


@PRELOAD
def test_the_new_code_runs_after_a_reload_and_the_old_after_a_broken_one(
    preload: str, docket: Docket, supervise: Supervise, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    app.mkdir()
    module = app / "versioned_app.py"

    def deploy(text: str) -> None:
        module.write_text(text)
        # Two versions of one size within one second would look the same to the import system.
        os.utime(module, (deployed[0], deployed[0]))
        deployed[0] += 10

    deployed = [1_700_000_000]
    deploy(APP.format(version="one"))
    supervisor = supervise(
        *("--processes", "2", "--app-dir", str(app), "--tasks", "versioned_app:tasks", preload, *QUICK)
    )

    def version(key: str) -> str:
        return docket.add("version", key=key)().get_result()

    assert version("first") == "one"
    deploy(APP.format(version="two"))
    supervisor.signal(signal.SIGHUP)
    reloaded(supervisor)
    assert version("second") == "two"
    deploy("raise RuntimeError('half-deployed')\n")
    workers = supervisor.titled("worker")
    supervisor.signal(signal.SIGHUP)
    supervisor.logged("reload undone, generation 2 stays in service")
    assert supervisor.log().count("RuntimeError: half-deployed") == 1
    assert version("third") == "two"
    assert sorted(supervisor.titled("worker")) == sorted(workers) and generations(supervisor) == [2, 2]
    assert supervisor.stop() == 0


def test_a_canary_that_is_killed_undoes_the_reload_and_its_work_runs_again(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "1", "--concurrency", "1", "--canary", "60s")
    go = tmp_path / "go"
    first = docket.add(does.wait_for, key="on-the-old")(str(go))
    old = evidence.running_in("on-the-old")
    supervisor.signal(signal.SIGHUP)
    eventually(lambda: generations(supervisor) == [1, 2])
    second = docket.add(does.wait_for, key="on-the-canary")(str(go))
    canary = evidence.running_in("on-the-canary")
    assert canary != old, "the canary works, or it would prove nothing"
    os.kill(canary, signal.SIGKILL)
    supervisor.logged("reload undone, generation 1 stays in service: the canary killed by SIGKILL")
    evidence.running_in("on-the-canary", times=2)
    go.touch()
    assert first.get_result() == str(old) and second.get_result()
    second.sync()
    assert (second.attempt, second.crashes) == (1, 0)
    assert generations(supervisor) == [1] and evidence.ran_once("on-the-old")
    assert supervisor.stop() == 0


def settled(log: str) -> bool:
    """Every reload that has begun has ended."""
    return log.count("reloading: ") == log.count("is in service: ") + log.count("reload undone") > 0


@PRELOAD
def test_while_watching_an_edit_is_live_within_seconds_and_a_broken_one_costs_nothing(
    preload: str, docket: Docket, supervise: Supervise, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    app.mkdir()
    module = app / "watched_app.py"
    module.write_text("syntax error\n")
    supervisor = supervise(
        *("--processes", "2", "--app-dir", str(app), "--tasks", "watched_app:tasks", preload, "--watch"),
        ready=False,
    )
    supervisor.logged("waiting for the next change")
    assert supervisor.log().count("SyntaxError") == 1 and supervisor.process.poll() is None
    for version in ("one", "two", "three"):
        begun = supervisor.log().count("reloading: ")
        module.write_text(APP.format(version=version))
        eventually(lambda begun=begun: supervisor.log().count("reloading: ") > begun)
        eventually(lambda: settled(supervisor.log()), "everybody is replaced")
        assert docket.add("version")().get_result() == version
        if version == "two":
            module.write_text("raise RuntimeError('half-written')\n")
            supervisor.logged("RuntimeError: half-written")
            eventually(lambda: settled(supervisor.log()))
            assert docket.add("version")().get_result() == "two"
    assert supervisor.stop() == 0


def test_systemd_hears_that_the_service_is_ready_again_however_a_reload_ends(
    supervise: Supervise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = tmp_path / "app"
    app.mkdir()
    module = app / "heard_app.py"
    module.write_text(APP.format(version="one"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(15)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        supervisor = supervise(
            *("--processes", "1", "--app-dir", str(app), "--tasks", "heard_app:tasks", "--canary", "0")
        )

        def heard(line: str) -> list[str]:
            while line not in (told := listener.recv(4096).decode().split("\n")):
                pass
            return told

        heard("READY=1")
        for text, undone in ((APP.format(version="two"), False), ("raise RuntimeError\n", True)):
            module.write_text(text)
            supervisor.signal(signal.SIGHUP)
            began = heard("RELOADING=1")
            assert any(re.fullmatch(r"MONOTONIC_USEC=\d+", line) for line in began)
            ended = heard("READY=1")
            assert any(line.startswith("STATUS=rolling restart undone") for line in ended) is undone
        assert supervisor.stop() == 0
