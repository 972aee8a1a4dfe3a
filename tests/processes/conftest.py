"""What the tests with real processes ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from docket.sync import Docket
from tests.processes.evidence import tasks
from tests.processes.fleet import Evidence, Supervisor
from tests.redis_server import RedisServer


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return Evidence(tmp_path / "evidence")


@pytest.fixture
def url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture
def supervise(
    url: str, docket_name: str, evidence: Evidence, tmp_path: Path
) -> Iterator[Callable[..., Supervisor]]:
    """Starts a supervisor with these options and variables; waits until its workers are ready, unless told not to."""
    started: list[Supervisor] = []

    def start(*options: str, ready: bool = True, url: str = url, **more: Any) -> Supervisor:
        log = tmp_path / f"log-{len(started)}"
        started.append(Supervisor(url, docket_name, evidence, log, *options, **more))
        if ready:
            started[-1].ready()
        return started[-1]

    yield start
    for supervisor in started:
        supervisor.close()


@pytest.fixture
def docket(url: str, docket_name: str) -> Iterator[Docket]:
    """The blocking client, with which a test adds what the workers are to run."""
    with Docket(name=docket_name, url=url) as docket:
        for task in tasks:
            docket.register(task)
        yield docket
