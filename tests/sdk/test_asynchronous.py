"""The skin for event loops: few connections, nothing mixed up, nothing that waits for ever."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

from docket import ConnectionFailed, Docket
from docket.store.asynchronous import AsyncStore
from docket.store.connect import resolve
from docket.store.requests import Commands
from tests.redis_server import RedisServer


def echo(text: str) -> Commands:
    return Commands((("ECHO", text),))


async def clients(docket: Docket) -> int:
    async with docket.redis() as redis:
        listed: Any = await redis.execute_command("CLIENT", "LIST")
    return len(listed.splitlines())


async def test_a_cancelled_request_is_cancelled_at_whatever_step(redis_url: str):
    swallowed: list[int] = []
    for step in range(60):
        store = AsyncStore(resolve(redis_url, "name"), connections=2)

        async def request(store: AsyncStore = store) -> None:
            for _ in range(3):
                await store.ask(echo("x"))
            await asyncio.Event().wait()

        task = asyncio.create_task(request())
        for _ in range(step):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=0.2)
        if not done:
            swallowed.append(step)
            task.cancel()
            await asyncio.wait({task})
        await store.close()
    assert swallowed == []


async def test_replies_are_not_mixed_up_when_requests_are_cancelled_half_way(docket: Docket):
    async def cancelled_at(step: int) -> None:
        task = asyncio.create_task(docket.store.ask(echo(f"cancelled {step}")))
        for _ in range(step % 25):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    for step in range(0, 200, 20):
        replies = await asyncio.gather(
            *(cancelled_at(step + offset) for offset in range(20)),
            *(docket.store.ask(echo(f"kept {number}")) for number in range(20)),
        )
        assert replies[20:] == [[f"kept {number}".encode()] for number in range(20)]


async def test_three_hundred_adds_at_once_take_few_connections(docket: Docket):
    before = await clients(docket)
    executions = await asyncio.gather(*(docket.add("trace", key=f"k{number}")("x") for number in range(300)))
    assert len({each.key for each in executions}) == 300
    assert await clients(docket) - before <= 8
    assert len((await docket.snapshot()).future) == 300
    await docket.clear()


async def test_a_hundred_and_fifty_waiters_take_few_connections(docket: Docket):
    executions = await docket.add_many([docket.call("trace", key=f"k{number}")("x") for number in range(150)])
    before = await clients(docket)
    waiting = [asyncio.create_task(each.get_result(timeout=timedelta(seconds=10))) for each in executions]
    while not docket.store.listener._confirmed or len(docket.store.listener._confirmed) < 150:  # pyright: ignore[reportAttributeAccessIssue]
        await asyncio.sleep(0.005)
    assert await clients(docket) - before <= 9
    from docket import Worker

    async with Worker(docket, concurrency=50) as worker:
        await asyncio.wait_for(worker.run_until_finished(), 10)
    assert await asyncio.wait_for(asyncio.gather(*waiting), 5) == [None] * 150


async def test_an_unreachable_redis_is_one_clear_error(short_folder):
    async with Docket(url=f"unix://{short_folder}/nothing.sock") as docket:
        began = time.monotonic()
        with pytest.raises(ConnectionFailed, match=r"cannot reach Redis at unix://.*nothing\.sock"):
            await docket.add("trace")("x")
        assert time.monotonic() - began < 2


async def test_a_refused_port_is_one_clear_error():
    async with Docket(url="redis://127.0.0.1:1/0") as docket:
        with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1:1"):
            await docket.add("trace")("x")


@pytest.mark.measured
async def test_a_silent_redis_is_given_up_on_once_not_twice(own_redis: RedisServer):
    store = AsyncStore(resolve(own_redis.url, "name"), connections=2, socket_timeout=0.5)
    await store.ask(echo("x"))
    own_redis.pause()
    try:
        began = time.monotonic()
        with pytest.raises(Exception):  # noqa: B017
            await asyncio.wait_for(store.ask(echo("y")), 5)
        assert time.monotonic() - began < 0.9
    finally:
        own_redis.resume()
        await store.close()


async def test_a_restarted_redis_is_met_without_an_error(own_redis: RedisServer, docket_name: str):
    async with Docket(docket_name, own_redis.url) as docket:
        await docket.add("trace", key="before")("x")
        own_redis.stop()
        own_redis.start()
        await docket.add("trace", key="after")("x")
        assert {each.key for each in (await docket.snapshot()).future} == {"before", "after"}


async def test_forgotten_scripts_are_sent_again(docket: Docket):
    await docket.add("trace", key="a")("x")
    async with docket.redis() as redis:
        await redis.execute_command("SCRIPT", "FLUSH")
    await docket.add("trace", key="b")("x")
    assert await docket.clear() == 2


async def test_a_server_that_has_become_a_replica_is_away(own_redis: RedisServer):
    """As behind a name that will lead to a new master: the connection is given up, and the error is ours."""
    async with Docket(name="n", url=own_redis.url) as docket, docket.redis() as client:
        await docket.add("trace")("x")
        await client.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(ConnectionFailed):
            await docket.add("trace")("y")
        await client.execute_command("REPLICAOF", "NO", "ONE")
        await docket.add("trace")("z")
