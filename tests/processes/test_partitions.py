"""A service of a docket that is split: on one server, and over the three nodes of a cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from chaos.fleets import RedisCluster, running_cluster
from docket.store.keys import place_of
from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.fleet import Evidence, Supervisor, eventually, gone
from tests.redis_server import RedisServer
from tests.supervisor.service import source_path

Supervise = Callable[..., Supervisor]
PARTITIONS = 3
LIMIT = timedelta(seconds=30)
TASKS = "tests.processes.evidence:of_a_split_docket"


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(params=["single", "cluster"])
def url(request: pytest.FixtureRequest, redis_server: RedisServer) -> str:
    if request.param == "cluster":
        return request.getfixturevalue("cluster").url
    return redis_server.url


@pytest.fixture
def docket(url: str, docket_name: str) -> Iterator[Docket]:
    with Docket(name=docket_name, url=url, partitions=PARTITIONS) as docket:
        for task in does.of_a_split_docket:
            docket.register(task)
        yield docket


@pytest.fixture
def keys() -> list[str]:
    """One of each partition."""
    return [
        next(key for number in range(100) if place_of(key := f"key-{number}", PARTITIONS) == partition)
        for partition in range(PARTITIONS)
    ]


def split(supervise: Supervise, *options: str, **more: Any) -> Supervisor:
    return supervise("--partitions", str(PARTITIONS), *options, tasks=TASKS, **more)


@pytest.mark.parametrize("task", [does.wait_for, does.wait_for_sync], ids=["async", "sync"])
def test_what_a_killed_worker_ran_runs_again_in_every_partition(
    task: Callable[[str], str],
    docket: Docket,
    supervise: Supervise,
    evidence: Evidence,
    keys: list[str],
    tmp_path: Path,
) -> None:
    supervisor = split(supervise, "--processes", "1")
    go = tmp_path / "go"
    executions = [docket.add(task, key=key)(str(go)) for key in keys]
    (first,) = {evidence.running_in(key) for key in keys}
    assert [sorted(each.partitions) for each in docket.workers()] == [[0, 1, 2]]
    os.kill(first, signal.SIGKILL)
    go.touch()  # nobody knows which of them it was: each is run alone now
    again = {evidence.running_in(key, times=2) for key in keys}
    assert first not in again
    for execution in executions:
        execution.get_result(timeout=LIMIT)
        execution.sync()
        assert (execution.state, execution.attempt, execution.redelivered) == ("completed", 1, True)
    assert all(len(evidence.began(key)) == 2 and len(evidence.ended(key)) == 1 for key in keys)
    assert supervisor.stop() == 0


def test_what_kills_its_workers_is_set_aside_and_its_neighbours_of_other_partitions_are_not(
    docket: Docket, supervise: Supervise, evidence: Evidence, keys: list[str], tmp_path: Path
) -> None:
    supervisor = split(supervise, "--processes", "1", "--max-crashes", "2", "--max-restarts", "20")
    go = tmp_path / "go"
    neighbours = [docket.add(does.wait_for, key=key)(str(go)) for key in keys[:2]]
    for key in keys[:2]:
        evidence.running_in(key)
    docket.add(does.segfault, key=keys[2])()
    crashed = evidence.running_in(keys[0])
    eventually(lambda: gone(crashed))
    go.touch()
    eventually(lambda: docket.dead_letters(), "a dead letter", 30)
    assert [each.key for each in docket.dead_letters()] == [keys[2]]
    for each in neighbours:
        each.get_result(timeout=LIMIT)
    docket.purge_dead()
    assert supervisor.stop() == 0


def test_nothing_is_lost_when_a_service_of_a_split_docket_is_stopped(
    docket: Docket, supervise: Supervise, evidence: Evidence, keys: list[str], tmp_path: Path
) -> None:
    supervisor = split(supervise, "--processes", "2", "--drain-timeout", "1s")
    executions = [docket.add(does.wait_for, key=key)(str(tmp_path / "go")) for key in keys]
    docket.add_many([docket.call(does.note, key=f"note-{number}")() for number in range(100)])
    eventually(lambda: len(evidence.lines("ended")) == 100)
    for key in keys:
        evidence.running_in(key)
    assert supervisor.stop() == 7
    snapshot = docket.snapshot()
    assert {each.key for each in snapshot.future} == set(keys) and not snapshot.running
    (tmp_path / "go").touch()
    again = split(supervise, "--processes", "1")
    for each in executions:
        each.get_result(timeout=LIMIT)
    assert again.stop() == 0


def test_a_service_may_serve_some_partitions_only(
    docket: Docket, supervise: Supervise, evidence: Evidence, keys: list[str]
) -> None:
    some = split(supervise, "--processes", "1", "--serve-partitions", "0,2")
    executions = [docket.add(does.note, key=key)() for key in keys]
    for number in (0, 2):
        executions[number].get_result(timeout=LIMIT)
    executions[1].sync()
    assert executions[1].state == "queued"
    split(supervise, "--processes", "1", DOCKET_SERVE_PARTITIONS="1")
    executions[1].get_result(timeout=LIMIT)
    assert sorted(sorted(each.partitions) for each in docket.workers()) == [[0, 2], [1]]
    assert some.stop() == 0


def test_one_that_is_killed_outright_is_swept_by_a_neighbour(
    docket: Docket, evidence: Evidence, docket_name: str, url: str, keys: list[str], tmp_path: Path
) -> None:
    """Workers that nobody supervises."""
    go = tmp_path / "go"
    lease = ("--redelivery-timeout", "2s")
    first = start_alone(url, docket_name, evidence, *lease)
    second = None
    try:
        executions = [docket.add(does.wait_for, key=key)(str(go)) for key in keys]
        assert {evidence.running_in(key) for key in keys} == {first.pid}
        second = start_alone(url, docket_name, evidence, *lease)
        eventually(lambda: len(docket.workers()) == 2)
        first.kill()
        first.wait()
        go.touch()
        assert {evidence.running_in(key, times=2) for key in keys} == {second.pid}
        for each in executions:
            each.get_result(timeout=LIMIT)
    finally:
        for process in (first, second):
            if process is not None and process.poll() is None:
                process.terminate()
                assert process.wait(20) == 0
    assert gone(first.pid)


def start_alone(url: str, docket_name: str, evidence: Evidence, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "docket", "worker", "--url", url, "--docket", docket_name),
            *("--tasks", TASKS, "--partitions", str(PARTITIONS), *options),
        ],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": source_path(), does.VARIABLE: str(evidence.path)},
    )


@pytest.mark.parametrize("supervised", [True, False], ids=["supervised", "alone"])
def test_what_does_not_end_at_its_time_limit_is_settled_in_its_partition(
    docket: Docket,
    supervise: Supervise,
    evidence: Evidence,
    docket_name: str,
    url: str,
    keys: list[str],
    tmp_path: Path,
    supervised: bool,
) -> None:
    service = split(supervise, "--processes", "1") if supervised else start_alone(url, docket_name, evidence)
    try:
        go = tmp_path / "go"
        late = [docket.add(does.sleep_for_ever_within_a_second, key=key)() for key in keys[1:]]
        neighbour = docket.add(does.wait_for, key=keys[0])(str(go))
        for key in keys:
            evidence.running_in(key)
        go.touch()
        neighbour.get_result(timeout=LIMIT)
        for each in late:
            with pytest.raises(TimeoutError, match="it ran longer than 0:00:01"):
                each.get_result(timeout=LIMIT)
            each.sync()
            assert (each.state, each.attempt, each.crashes) == ("failed", 1, 0)
        assert evidence.ran_once(keys[0])
        assert all(len(evidence.began(key)) == 1 for key in keys)
        docket.add(does.note, key="after")().get_result(timeout=LIMIT)
    finally:
        if isinstance(service, Supervisor):
            assert service.stop() == 0
        else:
            service.terminate()
            assert service.wait(20) == 0


@pytest.mark.parametrize("partitions", ["0", "65"])
def test_a_number_that_makes_no_sense_is_a_usage_error(supervise: Supervise, partitions: str) -> None:
    supervisor = supervise("--partitions", partitions, ready=False)
    assert supervisor.ends() == 2
    assert f"expected --partitions to be between 1 and 64, got {partitions}" in supervisor.log()


def test_partitions_that_are_not_there_are_a_usage_error(supervise: Supervise) -> None:
    supervisor = split(supervise, "--serve-partitions", "1,3", ready=False)
    assert supervisor.ends() == 2
    assert "expected the partitions to serve to be among 0 to 2" in supervisor.log()


def test_tasks_with_limits_cannot_be_imported_there(supervise: Supervise) -> None:
    supervisor = supervise("--partitions", "3", "--processes", "1", ready=False)
    assert supervisor.ends() == 3
    assert "expected no limits on a docket that is split" in supervisor.log()


def test_a_service_with_another_number_of_partitions_does_not_start(
    docket: Docket, supervise: Supervise
) -> None:
    docket.add(does.note, key="k")()
    supervisor = supervise("--partitions", "2", "--processes", "1", tasks=TASKS, ready=False)
    assert supervisor.ends(30) != 0
    assert "is split into 3 partitions in Redis, and was opened with partitions=2" in supervisor.log()
    docket.clear()
