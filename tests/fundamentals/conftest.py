"""A worker for the tutorial: it runs what there is, and tells if that takes too long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from docket import Docket, Worker


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def soon(now: datetime) -> datetime:
    return now + timedelta(milliseconds=50)


@pytest.fixture
def tomorrow(now: datetime) -> datetime:
    return now + timedelta(days=1)


@pytest.fixture
def work(docket: Docket) -> Callable[[], Awaitable[None]]:
    """Runs everything on the docket to its end."""

    async def work() -> None:
        async with Worker(docket) as worker:
            await asyncio.wait_for(worker.run_until_finished(), 10)

    return work
