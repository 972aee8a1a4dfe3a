"""A long script of somebody else is an outage: nothing is done meanwhile, and whoever waits goes on after it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from redis.exceptions import ResponseError

from docket import ConnectionFailed, Docket, results
from docket.store.blocking import BlockingStore
from docket.store.connect import refuses, resolve
from docket.store.requests import SUBSCRIBED, Commands
from docket.sync import Docket as BlockingDocket
from tests.redis_server import RedisServer
from tests.runtime.support import work_off

FOR_EVER = "while true do end"


@contextmanager
def busy(server: RedisServer) -> Iterator[None]:
    """The server says BUSY to everybody, until the block ends."""

    def occupy() -> None:
        with redis.Redis(unix_socket_path=server.socket_path) as client, pytest.raises(ResponseError):
            client.eval(FOR_EVER, 0)

    with redis.Redis(unix_socket_path=server.socket_path) as client:
        client.config_set("lua-time-limit", 20)
        thread = threading.Thread(target=occupy)
        thread.start()
        try:
            while "BUSY" not in _said(client):
                pass
            yield
        finally:
            client.script_kill()
            thread.join()


def _said(client: redis.Redis) -> str:
    try:
        client.ping()
    except ResponseError as error:
        return str(error)
    return ""


async def test_whoever_asks_is_told_that_redis_is_busy_and_nothing_was_done(own_redis: RedisServer):
    async with Docket("busy", own_redis.url) as docket:
        with BlockingDocket("busy", own_redis.url) as blocking:
            await docket.add("trace", key="before")("x")
            blocking.get_execution("before")
            with busy(own_redis):
                with pytest.raises(ConnectionFailed, match=r"BUSY .*SCRIPT KILL"):
                    await docket.add("trace", key="k")("x")
                with pytest.raises(ConnectionFailed, match=r"BUSY .*SCRIPT KILL"):
                    await asyncio.to_thread(lambda: blocking.add("trace", key="k")("x"))
            assert await docket.get_execution("k") is None


@pytest.mark.parametrize("skin", ["async", "blocking"])
async def test_a_waiter_waits_until_it_is_over(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, skin: str
):
    monkeypatch.setattr(results, "_LOOK_AGAIN", 0.05)
    monkeypatch.setattr(results, "_TRY_AGAIN", 0.05)
    async with Docket("busy", own_redis.url) as docket:
        execution = await docket.add("trace", key="k")("x")
        with BlockingDocket("busy", own_redis.url) as blocking:
            found = blocking.get_execution("k")
            assert found is not None
            waiting = asyncio.create_task(
                execution.get_result() if skin == "async" else asyncio.to_thread(found.get_result)
            )
            async with docket.redis() as client:
                while (await client.pubsub_numsub(docket.keys.state_channel("k")))[0][1] == 0:
                    await asyncio.sleep(0.01)
            with busy(own_redis):
                await asyncio.wait((waiting,), timeout=0.5)
            assert not waiting.done()
            await work_off(docket)
            assert await asyncio.wait_for(waiting, 10) is None


async def test_a_thread_whose_subscription_is_refused_meanwhile_subscribes_later(own_redis: RedisServer):
    store = BlockingStore(resolve(own_redis.url, "busy"))
    listening = store.listen(("c",))
    with busy(own_redis):
        assert await asyncio.to_thread(listening.next, 0.5) is None
    assert await asyncio.to_thread(listening.next, 5.0) is SUBSCRIBED
    store.ask(Commands((("PUBLISH", "c", "x"),)))
    assert await asyncio.to_thread(listening.next, 5.0) == ("c", b"x")
    listening.close()
    store.close()


def test_a_group_that_is_there_already_is_no_busy_redis():
    assert refuses(ResponseError("BUSY Redis is busy running a script."))
    assert not refuses(ResponseError("BUSYGROUP Consumer Group name already exists"))
