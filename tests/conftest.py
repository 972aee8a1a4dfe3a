"""What every test may ask for: a real Redis, a docket of its own in it, and a watch over what it leaves there."""

from __future__ import annotations

import logging
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from chaos.fleets import RedisCluster, Watched
from chaos.leftovers import leftovers, remove
from tests.redis_server import RedisServer

if TYPE_CHECKING:
    from docket import Docket


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("measured") is not None:
            item.add_marker(pytest.mark.flaky(reruns=2))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A temporary folder with a short path (pytest's own are too long for a Unix socket)."""
    with tempfile.TemporaryDirectory(prefix="docket-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The session's server. Not to be killed or paused: ask for `own_redis` to do that."""
    with tempfile.TemporaryDirectory(prefix="docket-", ignore_cleanup_errors=True) as folder:
        server = RedisServer(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def own_redis(short_folder: Path) -> Iterator[RedisServer]:
    """A started server of this test's own, which it may kill, pause, stop and start again."""
    server = RedisServer(short_folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def several_servers() -> Iterator[str | None]:
    """A cluster's or a Sentinel's, if DOCKET_TEST_TOPOLOGY asks for it: `make test-matrix` runs the tutorial there."""
    wanted = os.environ.get("DOCKET_TEST_TOPOLOGY")
    if not wanted:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="docket-", ignore_cleanup_errors=True) as folder:
        servers = {"cluster": RedisCluster, "sentinel": Watched}[wanted](Path(folder))
        try:
            servers.start()
            yield servers.url
        finally:
            servers.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer, several_servers: str | None) -> str:
    return several_servers or redis_server.url


@pytest.fixture
def docket_name() -> str:
    """A name that no other test uses; names that begin with it are watched and cleaned up as well."""
    return f"test-{uuid.uuid4().hex[:10]}"


@pytest.fixture
async def docket(docket_name: str, redis_url: str) -> AsyncIterator[Docket]:
    """An entered docket in the session's Redis."""
    from docket import Docket

    async with Docket(name=docket_name, url=redis_url) as docket:
        yield docket


@pytest.fixture(autouse=True)
def logging_is_as_before() -> Iterator[None]:
    """What runs a command in this process sets up logging for all of it, and every later test would log as much."""
    root = logging.getLogger()
    level, handlers = root.level, set(root.handlers)
    yield
    root.setLevel(level)
    for handler in set(root.handlers) - handlers:
        root.removeHandler(handler)


@pytest.fixture(autouse=True)
def nothing_is_left_in_redis(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves a key without expiry and without owner, then removes the test's keys.

    Set up before everything else that a test asks for, so it looks when all of that is closed.
    """
    if "docket_name" not in request.fixturenames or "redis_server" not in request.fixturenames:
        yield
        return
    name: str = request.getfixturevalue("docket_name")
    server: RedisServer = request.getfixturevalue("redis_server")
    yield
    with redis.Redis(unix_socket_path=server.socket_path) as client:
        left = leftovers(client, name)
        remove(client, name)
    if left and request.node.get_closest_marker("leaves_keys") is None:
        pytest.fail("left in Redis without expiry and without owner:\n  " + "\n  ".join(left), pytrace=False)
