"""A claim holds as long as its worker can do anything, and no longer."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.fleet import Evidence, Supervisor, eventually, gone
from tests.redis_server import RedisServer

Supervise = Callable[..., Supervisor]
SHORT = ("--redelivery-timeout", "1s")
EITHER = pytest.mark.parametrize("task", [does.wait, does.wait_sync], ids=["async", "sync"])


@EITHER
def test_a_task_longer_than_the_redelivery_timeout_runs_once(
    task: Callable[[float], str], docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "2", *SHORT)
    docket.add(task, key="long")(3).get_result()
    assert evidence.ran_once("long")
    assert supervisor.stop() == 0


@EITHER
def test_a_task_longer_than_the_redelivery_timeout_runs_once_also_during_a_drain(
    task: Callable[[float], str], docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    draining = supervise("--processes", "2", *SHORT)
    execution = docket.add(task, key="long")(3)
    evidence.running_in("long")
    supervise("--processes", "2", *SHORT)
    assert draining.stop() == 0
    execution.get_result()
    assert evidence.ran_once("long")


def test_a_task_that_blocks_the_loop_beyond_the_redelivery_timeout_runs_once(
    docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "2", *SHORT)
    docket.add(does.block_the_loop, key="blocker")(3).get_result()
    assert evidence.ran_once("blocker")
    assert supervisor.stop() == 0


def test_leases_are_kept_when_the_steward_is_killed(
    docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "2", *SHORT)
    execution = docket.add(does.block_the_loop, key="long")(3)
    evidence.running_in("long")
    for _ in range(3):
        (steward,) = eventually(lambda: supervisor.titled("steward"))
        os.kill(steward, signal.SIGKILL)
        eventually(
            lambda steward=steward: supervisor.titled("steward") not in ([], [steward]), "another steward"
        )
    execution.get_result()
    assert evidence.ran_once("long")
    assert supervisor.stop() == 0


@pytest.mark.parametrize("task", [does.wait_for, does.wait_for_sync], ids=["async", "sync"])
def test_work_of_a_stopped_worker_is_redelivered_and_the_late_one_changes_nothing(
    task: Callable[[str], str], docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "2", *SHORT)
    go = tmp_path / "go"
    execution = docket.add(task, key="frozen")(str(go))
    first = evidence.running_in("frozen")
    os.kill(first, signal.SIGSTOP)
    second = evidence.running_in("frozen", times=2)
    assert second != first
    go.touch()
    assert execution.get_result() == str(second)
    os.kill(first, signal.SIGCONT)
    # It ends too, unless it is stopped before, since somebody else's counts.
    eventually(
        lambda: len([*evidence.ended("frozen"), *evidence.lines("stopped", "frozen")]) == 2,
        "the thawed one comes to its end",
    )
    # It works again, under another id, and what it had to say about the first run was refused.
    eventually(lambda: "lapsed" in supervisor.log())
    docket.add(does.note, key="after")().get_result()
    execution.sync()
    assert execution.get_result() == str(second)
    assert (execution.state, execution.crashes) == ("completed", 0)
    assert len(evidence.began("frozen")) == 2
    assert supervisor.stop() == 0


def test_when_a_whole_host_dies_another_one_takes_its_work_over(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    dying = supervise("--processes", "2", *SHORT)
    go = tmp_path / "go"
    execution = docket.add(does.wait_for, key="running")(str(go))
    first = evidence.running_in("running")
    surviving = supervise("--processes", "2", *SHORT)
    for pid in (*dying.everybody(), dying.pid):
        os.kill(pid, signal.SIGKILL)
    dying.ends()
    killed_at = time.monotonic()
    second = evidence.running_in("running", times=2)
    assert time.monotonic() - killed_at < 5
    assert gone(first) and second in surviving.everybody()
    go.touch()
    assert execution.get_result() == str(second)
    assert surviving.stop() == 0


def test_two_supervisors_on_one_docket_run_everything_once(
    docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    services = [supervise("--processes", "2", *SHORT) for _ in range(2)]
    executions = [
        docket.add((does.note, does.note_sync)[number % 2], key=f"many-{number}")() for number in range(500)
    ]
    for execution in executions:
        execution.get_result()
    assert all(evidence.ran_once(execution.key) for execution in executions)
    assert {line["pid"] for line in evidence.lines("began")} - set(services[0].titled("worker"))
    assert [service.stop() for service in services] == [0, 0]


class TestRedisAway:
    """The server is this test's own, for it is killed."""

    @pytest.fixture
    def url(self, own_redis: RedisServer) -> str:
        return own_redis.url

    def test_redis_killed_and_started_again_in_the_middle_loses_nothing(
        self, own_redis: RedisServer, docket: Docket, supervise: Supervise, evidence: Evidence
    ) -> None:
        supervisor = supervise("--processes", "2", "--concurrency", "5")
        for number in range(300):
            docket.add((does.wait, does.wait_sync)[number % 2], key=f"many-{number}")(0.02)
        docket.add(does.wait, key="long")(3)
        evidence.running_in("long")
        own_redis.kill()
        supervisor.logged("docket.steward: Redis is away")
        own_redis.start()
        eventually(lambda: len({line["key"] for line in evidence.lines("ended")}) == 301, patience=20)
        assert len(evidence.began("long")) == 1, "shorter than the lease: no second run of anything"
        assert len(evidence.lines("began")) == 301
        assert supervisor.log().count("docket.steward: Redis is away") == 1
        docket.add(does.note, key="after")().get_result()
        assert supervisor.stop() == 0

    def test_a_death_while_redis_is_away_is_handed_over_when_it_is_back(
        self, own_redis: RedisServer, docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
    ) -> None:
        supervisor = supervise("--processes", "2")
        go = tmp_path / "go"
        execution = docket.add(does.wait_for, key="interrupted")(str(go))
        pid = evidence.running_in("interrupted")
        own_redis.kill()
        supervisor.logged("Redis is away")
        os.kill(pid, signal.SIGKILL)
        supervisor.logged(f"{pid} killed by SIGKILL")
        own_redis.start()
        second = evidence.running_in("interrupted", times=2)
        go.touch()
        assert execution.get_result() == str(second)
        assert supervisor.stop() == 0

    def test_a_service_that_is_started_before_its_redis_waits_and_says_so_once(
        self, own_redis: RedisServer, docket: Docket, supervise: Supervise, evidence: Evidence
    ) -> None:
        own_redis.kill()
        supervisor = supervise("--processes", "2", "--boot-timeout", "1s", ready=False)
        supervisor.logged("Redis is away")
        started = time.monotonic()
        eventually(lambda: time.monotonic() - started > 2)
        assert supervisor.process.poll() is None
        own_redis.start()
        supervisor.ready()
        docket.add(does.note, key="first")().get_result()
        assert supervisor.log().count("docket.steward: Redis is away") == 1
        assert supervisor.stop() == 0
