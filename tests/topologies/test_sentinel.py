"""Under a real Sentinel a docket follows the master: when it dies, and when it freezes."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import redis

from chaos.fleets import Watched, ask, free_port, wait_until
from docket import AuthenticationFailed, ConnectionFailed, Docket, clock
from docket import sync as blocking
from docket.store.connect import REPLY_TIMEOUT
from tests.runtime.support import running, until, work_off

WITHIN = timedelta(seconds=20)


async def double(number: int) -> int:
    return number * 2


@pytest.mark.parametrize("end", ["kill", "pause"])
async def test_work_goes_on_under_the_new_master(end: str, watched: Watched, docket_name: str):
    ran: Counter[int] = Counter()

    async def count(number: int) -> int:
        ran[number] += 1
        await asyncio.sleep(0.02)
        return number

    async with Docket(name=docket_name, url=watched.url) as docket:
        executions = await docket.add_many([docket.call(count)(number) for number in range(100)])
        watched.wait_for_the_replica()
        async with running(docket, concurrency=5) as worker:
            await until(lambda: len(ran) > 10)
            getattr(watched.master, end)()
            await until(lambda: len(ran) == 100 and not worker.hindrance, within=30)
            results = [await each.get_result(timeout=WITHIN) for each in executions]
            assert results == list(range(100))
            assert watched.master_port() == watched.replica.port
            # What was settled just before is not always on the replica yet, and what was in flight runs again.
            assert sum(ran.values()) <= 100 + 20
            # Those who only listen are led to the new master as well, though a frozen one never let go of them.
            stopped = await cancelled(docket)
            assert stopped


async def cancelled(docket: Docket) -> bool:
    began, ended = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    execution = await docket.add(hold)()
    await asyncio.wait_for(began.wait(), 10)
    await docket.cancel(execution.key)
    await asyncio.wait_for(ended.wait(), 5)
    return ended.is_set()


async def test_a_master_that_has_become_a_replica_is_left(watched: Watched, docket_name: str):
    async with Docket(name=docket_name, url=watched.url) as docket:
        await docket.add(double, key="k")(1)
        watched.wait_for_the_replica()
        async with running(docket):
            execution = await docket.add(double)(2)
            assert await execution.get_result(timeout=WITHIN) == 4
            # It refuses until it has heard enough of the replica.
            failover = partial(watched.ask_sentinel, "SENTINEL", "FAILOVER", watched.service)
            await asyncio.to_thread(wait_until, failover, "failover")
            await asyncio.to_thread(watched.wait_for_failover)
            wait_until(lambda: b"role:slave" in ask(watched.master, "INFO", "replication"), "demoted")
            execution = await docket.add(double)(3)
            assert await execution.get_result(timeout=WITHIN) == 6
        await work_off(docket)


def test_threads_find_the_new_master_too(watched: Watched, docket_name: str):
    with blocking.Docket(name=docket_name, url=watched.url) as docket:
        docket.add(double, key="k")(1)
        watched.wait_for_the_replica()
        watched.master.kill()
        with pytest.raises(ConnectionFailed):
            docket.get_execution("k")
        watched.wait_for_failover()
        execution = docket.get_execution("k")
        assert execution is not None and execution.args == (1,)


async def test_who_waits_for_a_master_that_stands_still_learns_of_the_new_one(
    watched: Watched, docket_name: str
):
    async with Docket(name=docket_name, url=watched.url) as docket:
        await docket.add(double, key="before")(1)
        watched.wait_for_the_replica()
        watched.master.pause()
        # Nobody else opens a connection; the old master lets go of none, and would answer when it goes on.
        async with asyncio.timeout(REPLY_TIMEOUT / 2):
            await docket.add(double, key="after")(2)
        assert watched.master_port() == watched.replica.port
        watched.master.resume()
        await work_off(docket)
        for key, doubled in (("before", 2), ("after", 4)):
            execution = await docket.get_execution(key)
            assert execution is not None and await execution.get_result() == doubled


def test_a_thread_that_waits_for_a_master_that_stands_still_learns_of_the_new_one(
    watched: Watched, docket_name: str
):
    with blocking.Docket(name=docket_name, url=watched.url) as docket:
        docket.add(double, key="before")(1)
        watched.wait_for_the_replica()
        watched.master.pause()
        began = clock.monotonic()
        docket.add(double, key="after")(2)
        assert clock.monotonic() - began < REPLY_TIMEOUT / 2
        assert watched.master_port() == watched.replica.port
        for key in ("before", "after"):
            assert docket.get_execution(key) is not None


def test_where_nobody_takes_over_the_silence_of_a_master_is_an_error_in_time(
    watched: Watched, docket_name: str
):
    """The replica is gone as well: its Sentinel has nobody to name but the one that stands still."""
    url = f"{watched.url}?socket_timeout=2.5"
    with blocking.Docket(name=docket_name, url=url) as docket:
        docket.add(double)(1)
        watched.replica.kill()
        watched.master.pause()
        began = clock.monotonic()
        with pytest.raises(ConnectionFailed, match="does not answer"):
            docket.add(double)(2)
        assert 2.5 <= clock.monotonic() - began < REPLY_TIMEOUT
        watched.master.resume()
        docket.add(double)(3)


async def test_one_sentinel_that_is_there_is_enough(watched: Watched, docket_name: str):
    url = watched.url.replace("://", f"://127.0.0.1:{free_port()},")
    async with Docket(name=docket_name, url=url) as docket:
        await docket.add(double)(1)
        await work_off(docket)
        # The number of the database is the one in the path.
        async with docket.redis() as client, Docket(name=docket_name, url=f"{url[:-1]}1") as other:
            assert await client.exists(docket.keys.generations)
            async with other.redis() as elsewhere:
                assert not await elsewhere.exists(docket.keys.generations)


async def test_a_service_that_no_sentinel_knows_is_named_in_the_error(watched: Watched, docket_name: str):
    url = watched.url.replace("/mymaster", "/orders")
    async with Docket(name=docket_name, url=url) as docket:
        with pytest.raises(ConnectionFailed, match="does not know"):
            await docket.add(double)(1)


async def test_master_and_sentinel_have_passwords_of_their_own(watched: Watched, docket_name: str):
    for server in watched.servers:
        ask(server, "CONFIG", "SET", "masterauth", "ours")
        ask(server, "ACL", "SETUSER", "worker", "on", ">theirs", "~*", "&*", "+@all")
    watched.ask_sentinel("ACL", "SETUSER", "asker", "on", ">mine", "+@all")
    watched.ask_sentinel("ACL", "SETUSER", "default", "off")
    url = watched.url.replace("://", "://worker:theirs@") + "?sentinel_username=asker&sentinel_password=mine"
    try:
        async with Docket(name=docket_name, url=url) as docket:
            await docket.add(double)(1)
            await work_off(docket)
        for wrong in (url.replace("theirs", "x"), url.replace("mine", "x")):
            async with Docket(name=docket_name, url=wrong) as docket:
                with pytest.raises(AuthenticationFailed) as refused:
                    await docket.add(double)(1)
                assert "theirs" not in str(refused.value) and "mine" not in str(refused.value)
            with blocking.Docket(name=docket_name, url=wrong) as docket, pytest.raises(AuthenticationFailed):
                docket.add(double)(1)
    finally:
        with redis.Redis(port=watched.port, username="asker", password="mine") as client:
            plain: Any = client
            plain.execute_command("ACL", "SETUSER", "default", "on")
