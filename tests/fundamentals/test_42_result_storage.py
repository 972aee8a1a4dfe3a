"""Results can be kept outside of Redis: in any store that speaks the protocol of py-key-value."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, SupportsFloat

import pytest

from docket import Docket, ResultStorageFailed, Worker
from docket.sync import Docket as BlockingDocket


class Shelf:
    """A storage needs no more than `put` and `get`. A `setup()` is awaited when a docket is entered."""

    def __init__(self) -> None:
        self.held: dict[tuple[str | None, str], Mapping[str, Any]] = {}
        self.lifetimes: list[float] = []
        self.broken = False

    async def put(
        self,
        key: str,
        value: Mapping[str, Any],
        *,
        collection: str | None = None,
        ttl: SupportsFloat | None = None,
    ) -> None:
        if self.broken:
            raise ConnectionError("the shelf has fallen down")
        self.held[collection, key] = value
        self.lifetimes.append(float(ttl or 0))

    async def get(self, key: str, *, collection: str | None = None) -> Mapping[str, Any] | None:
        return self.held.get((collection, key))


async def weigh(parcel: str) -> int:
    if not parcel:
        raise ValueError("there is no parcel")
    return len(parcel)


async def work_off(docket: Docket) -> None:
    async with Worker(docket) as worker:
        await asyncio.wait_for(worker.run_until_finished(), 10)


async def test_results_go_to_the_storage_and_come_back_from_it(docket_name: str, redis_url: str):
    """Values and exceptions alike, for `execution_ttl`. In Redis nothing of them is left."""
    shelf = Shelf()
    async with Docket(docket_name, redis_url, result_storage=shelf) as docket:
        good, bad = await docket.add(weigh)("a book"), await docket.add(weigh)("")
        await work_off(docket)
        assert await good.get_result() == 6
        with pytest.raises(ValueError, match="there is no parcel"):
            await bad.get_result()
        assert {collection for collection, _ in shelf.held} == {docket.results_collection}
        assert shelf.lifetimes == [docket.execution_ttl.total_seconds()] * 2
        async with docket.redis() as redis:
            assert await redis.keys(f"{docket_name}:results:*") == []


async def test_code_without_a_loop_can_use_it_too(docket_name: str, redis_url: str):
    """The storage is asynchronous: a blocking docket gives it a loop of its own, in a thread."""
    shelf = Shelf()

    def ask() -> int:
        with BlockingDocket(docket_name, redis_url, result_storage=shelf) as docket:
            return docket.add(weigh)("a book").get_result()

    async with Docket(docket_name, redis_url, result_storage=shelf) as docket:
        docket.register(weigh)
        async with Worker(docket) as worker:
            working = asyncio.create_task(worker.run_forever())
            assert await asyncio.wait_for(asyncio.to_thread(ask), 10) == 6
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


async def test_a_storage_that_fails_fails_that_execution(docket_name: str, redis_url: str):
    """With a clear error, and without another attempt: its side effects have happened. The worker goes on."""
    shelf = Shelf()
    async with Docket(docket_name, redis_url, result_storage=shelf) as docket:
        shelf.broken = True
        execution = await docket.add(weigh)("a book")
        await work_off(docket)
        with pytest.raises(ResultStorageFailed, match="the shelf has fallen down"):
            await execution.get_result()
        shelf.broken = False
        execution = await docket.add(weigh)("a book")
        await work_off(docket)
        assert await execution.get_result() == 6
