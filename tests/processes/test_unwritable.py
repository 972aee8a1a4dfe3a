"""A Redis that answers and takes no writes: nobody can work with it, and the service says so."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import redis

from docket.sync import Docket
from docket.tasks import trace
from tests.processes.fleet import Supervisor
from tests.redis_server import RedisServer

Supervise = Callable[..., Supervisor]

FULL = (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"))
A_REPLICA = (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"))


@pytest.fixture
def url(own_redis: RedisServer) -> str:
    return own_redis.url


@pytest.mark.parametrize(("begin", "end"), [FULL, A_REPLICA], ids=["full", "a replica"])
@pytest.mark.parametrize("partitions", [1, 2])
def test_it_is_not_ready_and_says_so_once(
    begin: tuple[str, ...],
    end: tuple[str, ...],
    partitions: int,
    url: str,
    docket_name: str,
    supervise: Supervise,
) -> None:
    options = ("--processes", "1", "--health-port", "0", "--redelivery-timeout", "20s")
    supervisor = supervise(*options, "--partitions", str(partitions), tasks="docket.tasks:standard_tasks")
    supervisor.answers("/ready", 200)
    with redis.Redis.from_url(url) as client:
        client.execute_command(*begin)
        supervisor.answers("/ready", 503, patience=2.0)
        assert supervisor.asked("/live")[0] == 200
        supervisor.logged("docket.steward: Redis takes no writes")
        client.execute_command(*end)
        supervisor.answers("/ready", 200)
    with Docket(name=docket_name, url=url, partitions=partitions) as docket:
        docket.add(trace)("after it").get_result()
    assert supervisor.stop() == 0
    steward = [line for line in supervisor.log().splitlines() if " docket.steward: " in line]
    assert len(steward) == 2 and steward[1].endswith("docket.steward: Redis is back"), steward
    assert "Traceback" not in supervisor.log()


def test_a_start_waits_until_it_takes_writes(own_redis: RedisServer, supervise: Supervise) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.execute_command(*FULL[0])
        supervisor = supervise(
            *("--processes", "1", "--health-port", "0", "--boot-timeout", "5s"), ready=False
        )
        supervisor.logged("docket.steward: Redis takes no writes")
        supervisor.answers("/ready", 503)
        supervisor.logged("docket.worker: Redis is away")
        time.sleep(6)
        client.execute_command(*FULL[1])
    supervisor.answers("/startup", 200)
    assert supervisor.stop() == 0
