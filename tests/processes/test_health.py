"""The service answers for itself over HTTP: startup, readiness, liveness, metrics."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.fleet import Evidence, Supervisor, eventually
from tests.redis_server import RedisServer
from tests.supervisor.service import source_path

Supervise = Callable[..., Supervisor]
HEALTH = ("--health-port", "0")


def test_a_service_in_order_is_started_ready_and_alive(supervise: Supervise) -> None:
    supervisor = supervise("--processes", "2", *HEALTH)
    supervisor.answers("/ready", 200)
    assert [supervisor.asked(path)[0] for path in ("/startup", "/ready", "/live")] == [200, 200, 200]
    assert supervisor.asked("/anything")[0] == 503
    assert supervisor.stop() == 0


def test_it_answers_on_the_loopback_only_unless_told(supervise: Supervise) -> None:
    supervisor = supervise("--processes", "1", *HEALTH)
    (steward,) = supervisor.titled("steward")
    (listens,) = [
        each.laddr for each in psutil.Process(steward).net_connections("tcp") if each.status == "LISTEN"
    ]
    assert (listens.ip, listens.port) == ("127.0.0.1", supervisor.port())


def test_without_a_port_nobody_listens(supervise: Supervise) -> None:
    supervisor = supervise("--processes", "1")
    for pid in (supervisor.pid, *supervisor.everybody()):
        assert [each for each in psutil.Process(pid).net_connections("tcp") if each.status == "LISTEN"] == []


def test_only_the_supervisor_and_the_steward_hold_the_port(supervise: Supervise) -> None:
    supervisor = supervise("--processes", "2", *HEALTH)
    holders = {
        pid
        for pid in (supervisor.pid, *supervisor.everybody())
        for each in psutil.Process(pid).net_connections("tcp")
        if each.laddr and each.laddr.port == supervisor.port() and each.status == "LISTEN"
    }
    assert holders == {supervisor.pid, *supervisor.titled("steward")}


def test_startup_waits_for_all_workers_and_ready_for_one(
    supervise: Supervise, docket: Docket, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "2", *HEALTH, ready=False)
    supervisor.answers("/startup", 200)
    docket.add(does.wait, key="long")(60)
    os.kill(evidence.running_in("long"), signal.SIGKILL)
    assert supervisor.asked("/startup")[0] == 200, "it stays so"
    supervisor.answers("/ready", 200)
    supervisor.signal(signal.SIGQUIT)
    supervisor.ends()
    docket.cancel("long")


def test_a_quiet_service_is_alive_and_not_ready(supervise: Supervise) -> None:
    supervisor = supervise("--processes", "1", *HEALTH)
    supervisor.answers("/ready", 200)
    supervisor.signal(signal.SIGTSTP)
    supervisor.answers("/ready", 503)
    assert supervisor.asked("/live")[0] == 200
    supervisor.signal(signal.SIGCONT)
    supervisor.answers("/ready", 200)
    assert supervisor.stop() == 0


def test_a_draining_service_is_alive_and_not_ready(
    supervise: Supervise, docket: Docket, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "1", *HEALTH)
    docket.add(does.wait_for, key="long")(str(tmp_path / "go"))
    evidence.running_in("long")
    supervisor.signal(signal.SIGTERM)
    supervisor.answers("/ready", 503)
    assert supervisor.asked("/live")[0] == 200
    (tmp_path / "go").touch()
    assert supervisor.ends() == 0


def test_a_stuck_supervisor_is_not_alive(supervise: Supervise) -> None:
    supervisor = supervise("--processes", "1", *HEALTH)
    supervisor.answers("/live", 200)
    supervisor.signal(signal.SIGSTOP)
    supervisor.answers("/live", 503)
    assert "has not turned for" in supervisor.asked("/live")[1]
    supervisor.signal(signal.SIGCONT)
    supervisor.answers("/live", 200)
    assert supervisor.stop() == 0


def test_another_steward_answers_at_the_same_port(supervise: Supervise) -> None:
    supervisor = supervise("--processes", "1", *HEALTH)
    supervisor.answers("/ready", 200)
    (steward,) = supervisor.titled("steward")
    os.kill(steward, signal.SIGKILL)
    eventually(lambda: supervisor.titled("steward") not in ([], [steward]))
    supervisor.answers("/ready", 200)
    assert supervisor.stop() == 0


def test_the_port_is_free_for_the_next_service_while_orphans_still_drain(
    supervise: Supervise, docket: Docket, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "1", *HEALTH)
    docket.add(does.wait_for, key="long")(str(tmp_path / "go"))
    orphan = evidence.running_in("long")
    family = supervisor.everybody()
    port = supervisor.port()
    os.kill(supervisor.pid, signal.SIGKILL)
    following = supervise("--processes", "1", "--health-port", str(port))
    following.answers("/ready", 200)
    assert psutil.pid_exists(orphan)
    (tmp_path / "go").touch()
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in family), "the end of the orphans")
    assert following.stop() == 0


def test_a_port_that_is_taken_is_a_mistake_of_configuration(supervise: Supervise) -> None:
    first = supervise("--processes", "1", *HEALTH)
    second = supervise("--processes", "1", "--health-port", str(first.port()), ready=False)
    assert second.ends() == 2
    assert (
        f"cannot answer for health at 127.0.0.1, port {first.port()}: Address already in use" in second.log()
    )
    assert first.stop() == 0


class TestWithoutRedis:
    @pytest.fixture
    def url(self, own_redis: RedisServer) -> str:
        return own_redis.url

    @pytest.mark.parametrize("outage", ["killed", "paused"])
    def test_a_service_without_redis_is_alive_and_not_ready(
        self, outage: str, own_redis: RedisServer, supervise: Supervise
    ) -> None:
        supervisor = supervise("--processes", "1", *HEALTH)
        supervisor.answers("/ready", 200)
        own_redis.kill() if outage == "killed" else own_redis.pause()
        supervisor.answers("/ready", 503, patience=2.0)
        assert supervisor.asked("/live")[0] == supervisor.asked("/metrics")[0] == 200
        own_redis.start() if outage == "killed" else own_redis.resume()
        supervisor.answers("/ready", 200)
        assert supervisor.stop() == 0

    def test_a_service_that_never_had_a_redis_says_so(
        self, own_redis: RedisServer, supervise: Supervise
    ) -> None:
        own_redis.kill()
        supervisor = supervise("--processes", "1", *HEALTH, ready=False)
        eventually(lambda: supervisor.asked("/live")[0] == 200)
        assert supervisor.asked("/ready") == (503, "Redis does not answer, or takes no writes\n")
        assert supervisor.asked("/startup")[0] == 503
        own_redis.start()
        supervisor.answers("/startup", 200)
        assert supervisor.stop() == 0


def test_no_increment_is_lost_to_a_kill(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    """Workers are killed again and again, each with a run under way. What they counted is what the tasks themselves
    wrote down, run by run."""
    supervisor = supervise("--processes", "2", *HEALTH)
    for number in range(5):
        notes = [docket.add(task)() for task in [does.note, does.note_sync, does.count] * 10]
        for note in notes:
            note.get_result()
        key, go = f"held-{number}", tmp_path / f"go-{number}"
        held = docket.add(does.wait_for, key=key)(str(go))
        os.kill(evidence.running_in(key), signal.SIGKILL)
        evidence.running_in(key, times=2)
        go.touch()
        held.get_result()
        eventually(lambda: len(supervisor.titled("worker")) == 2)
        began, ended = len(evidence.lines("began")), len(evidence.lines("ended"))
        assert supervisor.metric("docket_tasks_started_total") == began
        assert supervisor.metric("docket_tasks_succeeded_total") == ended
        assert supervisor.metric("docket_task_duration_seconds_count") == ended
        assert supervisor.metric("docket_worker_deaths_total", cause="SIGKILL") == number + 1
        assert supervisor.metric("docket_tasks_started_total", docket_task="wait_for") == 2 * (number + 1)
        assert supervisor.metric("test_mails_total", kind="order") == 10 * (number + 1)
    assert supervisor.metric("docket_tasks_failed_total") == 0
    assert supervisor.stop() == 0


@pytest.mark.parametrize("preload", ["--preload", "--no-preload"])
def test_the_tasks_own_metrics_are_added_up_and_gauges_of_the_dead_are_not(
    preload: str, docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "2", "--concurrency", "1", preload, *HEALTH)
    for number in range(2):
        docket.add(does.block_the_loop, key=f"blocker-{number}")(0.2)
    counts = [docket.add(does.count)() for _ in range(40)]
    for count in counts:
        count.get_result()
    assert supervisor.metric("test_mails_total") == 40
    here = len({line["pid"] for line in evidence.began("") if line["key"] in {count.key for count in counts}})
    assert supervisor.metric("test_here") == here
    for pid in supervisor.titled("worker"):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: supervisor.metric("test_here") == 0)
    assert supervisor.metric("test_mails_total") == 40
    assert supervisor.stop() == 0


def test_nothing_of_the_metrics_is_left_on_disk(supervise: Supervise, docket: Docket) -> None:
    supervisor = supervise("--processes", "1", *HEALTH)
    docket.add(does.count)().get_result()
    (worker,) = supervisor.titled("worker")
    (folder,) = {
        Path(each.path).parent for each in psutil.Process(worker).memory_maps() if "/counter_" in each.path
    }
    assert list(folder.glob("counter_*.db"))
    assert supervisor.stop() == 0
    assert not folder.exists()


def test_the_queue_is_shown(supervise: Supervise, docket: Docket, evidence: Evidence, tmp_path: Path) -> None:
    supervisor = supervise("--processes", "1", "--concurrency", "1", *HEALTH)
    go = tmp_path / "go"
    waiting = [docket.add(does.wait_for, key=f"waits-{number}")(str(go)) for number in range(4)]
    evidence.running_in("waits-0")
    eventually(lambda: supervisor.metric("docket_queue_depth") == 3, "the depth")
    eventually(lambda: supervisor.metric("docket_queue_latency_seconds") > 2, "the latency")
    assert supervisor.metric("docket_tasks_running", docket_task="wait_for") == 1
    go.touch()
    for execution in waiting:
        execution.get_result()
    eventually(lambda: supervisor.metric("docket_queue_depth") == 0, "the end of the depth")
    assert supervisor.stop() == 0


def test_dead_letters_are_shown_with_what_the_workers_died_of(supervise: Supervise, docket: Docket) -> None:
    supervisor = supervise("--processes", "1", *HEALTH)
    docket.add(does.segfault, key="poison")()
    eventually(lambda: docket.dead_letters())
    eventually(lambda: supervisor.metric("docket_dead_letters") == 1)
    assert supervisor.metric("docket_worker_deaths_total", cause="SIGSEGV") == 3
    assert supervisor.metric("docket_tasks_started_total", docket_task="segfault") == 3
    assert supervisor.metric("docket_tasks_completed_total", docket_task="segfault") == 0
    assert supervisor.stop() == 0
    docket.purge_dead()


def test_the_steward_loads_the_metrics_client_only_when_it_is_asked(supervise: Supervise) -> None:
    """A process that is never scraped has no use for it; the tasks' own use of it is the template's."""
    check = "import sys, docket_supervisor.steward; sys.exit('prometheus_client' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": source_path()}
    assert subprocess.run([sys.executable, "-c", check], env=environment, timeout=30).returncode == 0


def test_the_status_is_told_as_json(
    supervise: Supervise, docket: Docket, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "2", *HEALTH)
    docket.add(does.wait_for, key="long")(str(tmp_path / "go"))
    pid = evidence.running_in("long")
    supervisor.answers("/status", 200)
    status = json.loads(supervisor.asked("/status")[1])
    assert status["supervisor"]["pid"] == supervisor.pid and status["supervisor"]["phase"] == "running"
    (slot,) = [slot for slot in status["slots"] if slot["pid"] == pid]
    assert [(each["key"], each["task"]) for each in slot["running"]] == [("long", "wait_for")]
    assert status["totals"]["started"] == 1
    (tmp_path / "go").touch()
    assert supervisor.stop() == 0
