"""A supervised service outlives the failover of its Redis: nothing is lost, and nobody is blamed."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from chaos.fleets import RedisCluster, Watched, ask, wait_until
from docket import ConnectionFailed
from docket.sync import Docket
from tests.processes.evidence import tasks, wait_for
from tests.processes.fleet import Evidence, Supervisor, eventually
from tests.redis_server import RedisServer


def outlives(url: str, name: str, master: RedisServer, folder: Path) -> None:
    evidence = Evidence(folder / "evidence")
    go = folder / "go"
    options = ("--processes", "2", "--concurrency", "2")
    with contextlib.closing(Supervisor(url, name, evidence, folder / "log", *options)) as supervisor:
        supervisor.ready()
        with Docket(name=name, url=url) as docket:
            for task in tasks:
                docket.register(task)
            keys = [f"task-{number}" for number in range(12)]
            for key in keys:
                docket.add(wait_for, key=key)(str(go))
            eventually(lambda: len(evidence.lines("began")) == 4, "four of them run")
            wait_until(lambda: ask(master, "WAIT", 1, 1000) == 1, "replicated")
            master.kill()
            go.touch()
            eventually(lambda: all(evidence.ended(key) for key in keys), "all have run", 40)
            for key in keys:
                eventually(lambda key=key: state(docket, key) == "completed", f"{key} is settled", 20)
                found = docket.get_execution(key)
                assert found is not None and found.crashes == 0
        assert supervisor.stop() == 0
        assert "Redis is back" in supervisor.log()


def state(docket: Docket, key: str) -> str:
    try:
        found = docket.get_execution(key)
    except ConnectionFailed:
        return ""
    return found.state if found is not None else ""


@pytest.mark.timeout(100)
def test_under_a_sentinel(watched: Watched, docket_name: str, tmp_path: Path) -> None:
    outlives(watched.url, docket_name, watched.master, tmp_path)


@pytest.mark.timeout(100)
def test_on_a_cluster(own_cluster: RedisCluster, docket_name: str, tmp_path: Path) -> None:
    master = own_cluster.masters[0]
    outlives(own_cluster.url, own_cluster.name_on(master, docket_name), master, tmp_path)
