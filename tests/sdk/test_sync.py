"""The blocking skin: thread-safe, few connections, the same meanings."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chaos.proxy import LossyProxy
from docket import AuthenticationFailed, BadURL, ConnectionFailed, Disposition, ExecutionCancelled
from docket import Docket as AsyncDocket
from docket.errors import TaskInterrupted
from docket.store import scripts
from docket.sync import Docket
from tests.redis_server import RedisServer
from tests.runtime.support import Gate, running, soon

LIMIT = timedelta(seconds=10)


def clients(docket: Docket) -> int:
    with docket.redis() as redis:
        listed: Any = redis.execute_command("CLIENT", "LIST")
        return len(listed.splitlines())


def test_a_hundred_threads_share_a_few_connections(docket_name: str, redis_url: str):
    with Docket(docket_name, redis_url) as docket, ThreadPoolExecutor(100) as pool:
        before = clients(docket)
        executions = list(pool.map(lambda number: docket.add("trace", key=f"k{number}")("x"), range(300)))
        assert len({each.key for each in executions}) == 300
        assert clients(docket) - before <= 8
        assert docket.clear() == 300


async def test_more_than_a_hundred_threads_can_wait_for_results(
    docket: AsyncDocket, docket_name: str, redis_url: str
):
    """redis-py refuses the 101st connection of a pool by default."""
    gate = Gate()
    docket.register(gate, names=["gate"])
    execution = await docket.add("gate", key="k")("x")
    results: list[object] = []

    def waits(blocking: Docket) -> None:
        found = blocking.get_execution("k")
        assert found is not None
        try:
            results.append(found.get_result(timeout=LIMIT))
        except BaseException as error:
            results.append(error)

    with Docket(docket_name, redis_url) as blocking:
        threads = [threading.Thread(target=waits, args=(blocking,)) for _ in range(130)]
        for thread in threads:
            thread.start()
        async with running(docket):
            await gate.has_begun()
            await asyncio.sleep(0.3)
            gate.open.set()
            await execution.get_result(timeout=LIMIT)
            for thread in threads:
                await asyncio.to_thread(thread.join, 10)
    assert results == ["x"] * 130


def test_naive_moments_wrong_calls_and_bad_keys_are_refused(docket_name: str, redis_url: str):
    def note(number: int) -> None: ...

    with Docket(docket_name, redis_url) as docket:
        with pytest.raises(TypeError, match="time zone"):
            docket.add(note, when=datetime(2030, 1, 1))
        with pytest.raises(TypeError, match="note"):
            docket.add(note)()  # type: ignore[call-arg]
        with pytest.raises(ValueError, match="key"):
            docket.add(note, key="")
        with pytest.raises(TypeError, match="'number'"):
            docket.add(note)(threading.Lock())  # type: ignore[arg-type]


def test_what_is_no_moment_or_no_text_is_refused_with_a_sentence(docket_name: str, redis_url: str):
    with Docket(docket_name, redis_url) as docket:
        with pytest.raises(TypeError, match="expected when to be a datetime, got 'x'"):
            docket.add("trace", when="x")  # type: ignore[arg-type]
        execution = docket.add("trace", key="k")("x")
        with pytest.raises(TypeError, match="expected deadline to be a datetime, got 5"):
            execution.get_result(deadline=5)  # type: ignore[arg-type]
        for verb in (docket.cancel, docket.get_execution, docket.why, docket.retry_dead):
            with pytest.raises(ValueError, match="expected text that UTF-8 can carry") as caught:
                verb("\ud800")
            assert not isinstance(caught.value, UnicodeError)
        docket.clear()


def test_an_execution_can_be_scheduled_like_a_call(docket_name: str, redis_url: str):
    with Docket(docket_name, redis_url) as docket:
        when = soon(seconds=60)
        first = docket.add("trace", when=when, key="k")("x")
        assert docket.schedule(first).disposition is Disposition.ALREADY_SCHEDULED
        docket.cancel("k")
        again = docket.schedule(first)
        assert again.disposition is Disposition.SCHEDULED and again.generation > first.generation
        found = docket.get_execution("k")
        assert found is not None
        assert (found.function_name, found.args, found.when) == ("trace", ("x",), when)
        with pytest.raises(TypeError, match="expected an execution, got 5"):
            docket.schedule(5)  # type: ignore[arg-type]
        docket.clear()


def test_a_docket_that_is_not_open_says_so(docket_name: str, redis_url: str):
    docket = Docket(docket_name, redis_url)
    with pytest.raises(RuntimeError, match="not open"):
        docket.add("trace")("x")
    with pytest.raises(RuntimeError, match="not open"):
        docket.close()
    with docket, pytest.raises(RuntimeError, match="twice"):
        docket.__enter__()


def test_unreachable_redis_and_bad_urls_are_clear_errors(short_folder: Path):
    with pytest.raises(BadURL):
        Docket(url="http://localhost")
    with Docket(url=f"unix://{short_folder}/none.sock") as docket:
        began = time.monotonic()
        with pytest.raises(ConnectionFailed):
            docket.add("trace")("x")
        assert time.monotonic() - began < 2


def test_a_wrong_password_is_a_clear_error(own_redis: RedisServer):
    import redis

    with redis.Redis(unix_socket_path=own_redis.socket_path) as client:
        client.config_set("requirepass", "right")
    with Docket(url=own_redis.url) as docket, pytest.raises(AuthenticationFailed):
        docket.add("trace")("x")


def test_a_waiter_is_told_of_a_cancellation_and_of_its_limit(docket_name: str, redis_url: str):
    with Docket(docket_name, redis_url) as docket:
        execution = docket.add("trace", when=soon(seconds=60), key="k")("x")
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            execution.get_result(timeout=timedelta(milliseconds=100))
        assert 0.09 < time.monotonic() - began < 1
        timer = threading.Timer(0.05, docket.cancel, ("k",))
        timer.start()
        with pytest.raises(ExecutionCancelled):
            execution.get_result(timeout=LIMIT)
        timer.join()


def test_a_restarted_redis_is_met_without_an_error(own_redis: RedisServer):
    with Docket("d", own_redis.url) as docket:
        docket.add("trace", key="before")("x")
        own_redis.stop()
        own_redis.start()
        docket.add("trace", key="after")("x")
        assert {each.key for each in docket.snapshot().future} == {"before", "after"}


async def test_a_waiter_survives_a_broken_connection(docket: AsyncDocket, docket_name: str, redis_url: str):
    gate = Gate()
    docket.register(gate, names=["gate"])
    execution = await docket.add("gate", key="k")("x")
    with Docket(docket_name, redis_url) as blocking:
        found = blocking.get_execution("k")
        assert found is not None
        waiting = asyncio.create_task(asyncio.to_thread(found.get_result, timeout=LIMIT))
        async with running(docket):
            await gate.has_begun()
            await asyncio.sleep(0.1)
            async with docket.redis() as redis:
                await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            gate.open.set()
            assert await execution.get_result(timeout=LIMIT) == "x"
            assert await asyncio.wait_for(waiting, 5) == "x"


async def test_an_add_whose_reply_is_lost_is_one_execution(
    docket: AsyncDocket, docket_name: str, redis_server: RedisServer, short_folder: Path
):
    async with LossyProxy(short_folder, redis_server.socket_path) as proxy:

        def client() -> None:
            with Docket(docket_name, proxy.url) as blocking:
                blocking.add("trace", key="first")("the script is known to the server")
                proxy.lose(scripts.SCHEDULE)
                execution = blocking.add("trace", key="k")("x")
                assert execution.disposition is Disposition.SCHEDULED

        await asyncio.to_thread(client)
        assert proxy.lost == 1
    assert {each.key for each in (await docket.snapshot()).future} == {"first", "k"}
    await docket.clear()


@pytest.mark.parametrize("wait", ["for a result", "for events"])
async def test_a_task_that_waits_in_its_thread_can_be_interrupted(
    docket: AsyncDocket, docket_name: str, redis_url: str, wait: str
):
    """Between two Python instructions, of which a wait for Redis has none."""
    ended = threading.Event()
    raised: list[BaseException] = []

    def waits() -> None:
        try:
            with Docket(docket_name, redis_url) as blocking:
                found = blocking.get_execution("later")
                assert found is not None
                if wait == "for a result":
                    found.get_result()
                else:
                    list(found.subscribe())
        except BaseException as error:
            raised.append(error)
            raise
        finally:
            ended.set()

    await docket.add("trace", when=soon(hours=1), key="later")("x")
    async with running(docket):
        await docket.add(waits, key="k")()
        async with docket.redis() as client:
            while (await client.pubsub_numsub(docket.keys.state_channel("later")))[0][1] == 0:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # it has looked, and waits again
        await docket.cancel("k")
        assert await asyncio.to_thread(ended.wait, 5)
    assert [type(error) for error in raised] == [TaskInterrupted]
    await docket.clear()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_share_its_parents_connections(docket_name: str, redis_url: str):
    with Docket(docket_name, redis_url) as docket:
        docket.add("trace", key="parent")("x")
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for number in range(50):
                    docket.add("trace", key=f"child {number}")("x")
                code = 0
            finally:
                os._exit(code)
        for number in range(50):
            docket.add("trace", key=f"parent {number}")("x")
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert docket.clear() == 101


def test_a_key_that_is_no_text_can_be_looked_at_and_forgotten(docket_name: str, redis_url: str) -> None:
    """Whoever can write to Redis can write such a key; hiredis refuses the surrogates that stand for it."""
    with Docket(docket_name, redis_url) as blocking:
        with blocking.redis() as client:
            client.execute_command("XADD", blocking.keys.stream, "*", b"k", b"\xff\xfe\x00", b"g", b"1")
            client.execute_command("ZADD", blocking.keys.dead, 1, b"garbage:\xff\xfe")
            fields = (b"state", b"failed", b"function", b"", b"body", b"", b"dead", b"1")
            client.execute_command("HSET", f"{docket_name}:runs:".encode() + b"garbage:\xff\xfe", *fields)
        snapshot = blocking.snapshot()
        (dead,) = snapshot.dead
        assert dead.key == "garbage:\udcff\udcfe"
        assert blocking.get_execution(dead.key) is not None
        assert blocking.purge_dead([dead.key]) == 1
        blocking.clear()


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_the_first_add_finds_its_script_put_together(
    docket_name: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, kind: str
):
    """That takes some milliseconds, for which the loop of whoever adds would stand still."""
    monkeypatch.setattr(scripts, "SCHEDULE", fresh := replace(scripts.SCHEDULE))
    if kind == "async":
        async with AsyncDocket(docket_name, redis_url):
            assert "sha" in vars(fresh)
    else:
        with Docket(docket_name, redis_url):
            assert "sha" in vars(fresh)
