"""What a service costs that has nothing to do, and that it is wide awake as soon as it has."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import redis

from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.fleet import Evidence, Supervisor, eventually
from tests.redis_server import RedisServer

Supervise = Callable[..., Supervisor]

WINDOW = 6.0
_NOT_OURS = ("info", "config", "client", "ping")


@pytest.fixture
def own(own_redis: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis(unix_socket_path=own_redis.socket_path) as client:
        yield client


def commands(client: redis.Redis) -> int:
    """So far, those in scripts included."""
    return sum(
        row["calls"]
        for name, row in client.info("commandstats").items()
        if not name.removeprefix("cmdstat_").startswith(_NOT_OURS)
    )


def per_second(client: redis.Redis) -> float:
    """Over a while that is long enough for whatever comes from time to time."""
    before, began = commands(client), time.monotonic()
    eventually(lambda: time.monotonic() - began > WINDOW, "the window")
    return (commands(client) - before) / (time.monotonic() - began)


@pytest.mark.parametrize("processes", [2, 6])
def test_at_rest_it_asks_redis_for_little_however_many_processes_there_are(
    supervise: Supervise, own_redis: RedisServer, own: redis.Redis, processes: int
) -> None:
    supervise("--processes", str(processes), url=own_redis.url)
    # Measured are 8 and 7; a single script that asks for each worker, or each second, would be above this.
    eventually(lambda: per_second(own) < 20, "calm", 30)


def test_what_is_added_to_a_service_at_rest_is_run_at_once_and_in_time(
    supervise: Supervise, docket: Docket, evidence: Evidence
) -> None:
    supervise("--processes", "2")
    began = time.monotonic()
    eventually(lambda: time.monotonic() - began > 5.0, "rest")
    docket.add(does.note, key="now")()
    eventually(lambda: evidence.began("now"), "the first run", 1.0)
    docket.add(does.note, when=datetime.now(UTC) + timedelta(seconds=0.3), key="soon")()
    eventually(lambda: evidence.began("soon"), "the second run", 1.5)


def test_the_status_of_a_service_at_rest_is_of_the_moment_in_which_it_is_asked(
    supervise: Supervise, docket: Docket
) -> None:
    supervisor = supervise("--processes", "1", "--health-port", "0")
    began = time.monotonic()
    eventually(lambda: time.monotonic() - began > 7.0, "rest")
    docket.add(does.note, when=datetime.now(UTC) + timedelta(hours=1), key="one")()
    assert json.loads(supervisor.told("status", "--json").stdout)["queue"]["scheduled"] == 1
    began = time.monotonic()
    eventually(lambda: time.monotonic() - began > 0.6, "figures that are not of now")
    docket.add(does.note, when=datetime.now(UTC) + timedelta(hours=1), key="two")()
    assert json.loads(supervisor.asked("/status")[1])["queue"]["scheduled"] == 2
