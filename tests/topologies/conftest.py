"""What the tests with several servers ask for: a cluster, and a master under a Sentinel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.fleets import RedisCluster, Watched, running_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[RedisCluster]:
    """Three masters, for every test that ends none of them."""
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def own_cluster(short_folder: Path) -> Iterator[RedisCluster]:
    """Three masters and a replica of the first: a test of its own may end that one."""
    cluster = RedisCluster(short_folder, replicas=1)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def watched(short_folder: Path) -> Iterator[Watched]:
    watched = Watched(short_folder)
    try:
        watched.start()
        yield watched
    finally:
        watched.stop()
