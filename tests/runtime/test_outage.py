"""Redis goes away and comes back: so does the worker, by itself, and what Redis kept is not lost."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from docket import ConnectionFailed, Docket, results
from docket.sync import Docket as BlockingDocket
from tests.redis_server import RedisServer
from tests.runtime.support import Gate, SyncGate, running, soon, until

LIMIT = timedelta(seconds=8)


async def ten() -> int:
    return 10


@pytest.fixture
async def ours(own_redis: RedisServer) -> AsyncIterator[Docket]:
    async with Docket("outage", own_redis.url) as docket:
        yield docket


async def test_a_restart_in_the_middle_loses_nothing_and_runs_nothing_twice(
    ours: Docket, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
):
    ran: Counter[int] = Counter()

    async def note(number: int) -> int:
        ran[number] += 1
        await asyncio.sleep(0.01)
        return number

    executions = await ours.add_many([ours.call(note)(number) for number in range(200)])
    async with running(ours, concurrency=5):
        await until(lambda: len(ran) >= 50)
        await asyncio.to_thread(own_redis.stop)
        await asyncio.sleep(0.2)
        await asyncio.to_thread(own_redis.start)
        for number, execution in enumerate(executions):
            assert await execution.get_result(timeout=LIMIT) == number
    assert ran == Counter(range(200))
    assert caplog.text.count("Redis is away") == 1
    assert caplog.text.count("Redis is back") == 1


@pytest.mark.parametrize("how", ["restart", "pause"])
async def test_bodies_that_run_through_an_outage_are_settled_after_it(
    ours: Docket, own_redis: RedisServer, how: str
):
    gate, sync_gate = Gate(), SyncGate()
    ours.register(gate, names=["gate"])
    ours.register(sync_gate, names=["sync_gate"])
    async with running(ours):
        first, second = await ours.add("gate")("a"), await ours.add("sync_gate")("b")
        await gate.has_begun()
        await sync_gate.has_begun()
        if how == "restart":
            await asyncio.to_thread(own_redis.stop)
        else:
            own_redis.pause()
        gate.open.set()
        sync_gate.open.set()
        await until(lambda: len(gate.log) == 2 and len(sync_gate.log) == 2)
        await asyncio.sleep(0.1)
        if how == "restart":
            await asyncio.to_thread(own_redis.start)
        else:
            own_redis.resume()
        assert await first.get_result(timeout=LIMIT) == "a"
        assert await second.get_result(timeout=LIMIT) == "b"
    assert gate.log == ["began a", "ended a"] and sync_gate.log == ["began b", "ended b"]


async def test_what_became_due_during_an_outage_runs_after_it(ours: Docket, own_redis: RedisServer):
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    async with running(ours):
        executions = [await ours.add(note, when=soon(milliseconds=50))(number) for number in range(20)]
        await asyncio.to_thread(own_redis.stop)
        await asyncio.sleep(0.1)
        await asyncio.to_thread(own_redis.start)
        for execution in executions:
            await execution.get_result(timeout=LIMIT)
    assert sorted(ran) == list(range(20))


async def test_an_idle_worker_survives_a_restart_and_hears_again(ours: Docket, own_redis: RedisServer):
    begun = asyncio.Event()

    async def endless() -> None:
        begun.set()
        await asyncio.sleep(60)

    ours.register(endless)
    async with running(ours) as worker:
        await until(lambda: worker.exchange.reading)
        await asyncio.to_thread(own_redis.stop)
        await asyncio.sleep(0.15)
        await asyncio.to_thread(own_redis.start)
        await ours.add(endless, key="k")()
        await asyncio.wait_for(begun.wait(), 5)
        await ours.cancel("k")
        await until(lambda: not worker.claims)


async def test_everything_flushed_in_the_middle_does_not_stop_a_worker(ours: Docket):
    gate = Gate()
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    ours.register(gate, names=["gate"])
    async with running(ours) as worker:
        await ours.add("gate")("lost")
        await gate.has_begun()
        await ours.add(note, when=soon(seconds=60))(-1)
        async with ours.redis() as redis:
            await redis.flushall()
        executions = [await ours.add(note)(number) for number in range(20)]
        gate.open.set()
        for execution in executions:
            await execution.get_result(timeout=LIMIT)
        await until(lambda: not worker.claims)
        await (await ours.add(note)(20)).get_result(timeout=LIMIT)
        assert [each.worker_id for each in await ours.workers()] == [worker.worker_id]
    assert sorted(ran) == list(range(21))


def listens(docket: Docket, key: str) -> bool:
    """Whoever waits for this execution has had its first look, and is told of events."""
    return docket.keys.state_channel(key) in docket.store.listener._confirmed  # pyright: ignore[reportAttributeAccessIssue]


async def test_a_waiter_is_served_across_a_restart(ours: Docket, own_redis: RedisServer):
    gate = Gate()
    ours.register(gate, names=["gate"])
    async with running(ours):
        execution = await ours.add("gate")("x")
        waiting = asyncio.create_task(execution.get_result(timeout=LIMIT))
        await gate.has_begun()
        await until(lambda: listens(ours, execution.key))
        await asyncio.to_thread(own_redis.stop)
        await asyncio.sleep(0.1)
        gate.open.set()
        await asyncio.to_thread(own_redis.start)
        assert await waiting == "x"


class Absence:
    """Redis is gone for a third of a second, from right before the nth call on."""

    def __init__(self, redis: RedisServer, nth: int) -> None:
        self.over = threading.Event()
        self._redis = redis
        self._calls_left = nth

    def before(self, do: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def done(asked: Any) -> Any:
            self._calls_left -= 1
            if self._calls_left == 0:
                self._redis.stop()
                threading.Timer(0.3, self._end).start()
            return do(asked)

        return done

    def _end(self) -> None:
        self._redis.start()
        self.over.set()


async def test_a_waiter_is_served_though_redis_goes_just_when_it_looks(
    ours: Docket, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
):
    ours.register(ten)
    async with Docket("outage", own_redis.url) as client:
        execution = await client.add("ten")()
        absence = Absence(own_redis, 2)
        monkeypatch.setattr(client.store, "ask", absence.before(client.store.ask))
        waiting = asyncio.create_task(execution.get_result(timeout=LIMIT))
        await until(absence.over.is_set)
        async with running(ours):
            assert await waiting == 10


@pytest.mark.parametrize("moment", ["before it listens", "when it looks again"])
async def test_a_blocking_waiter_is_served_though_redis_goes(
    ours: Docket, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, moment: str
):
    ours.register(ten)
    with BlockingDocket("outage", own_redis.url) as client:
        execution = client.add("ten")()
        if moment == "before it listens":
            absence = Absence(own_redis, 1)
            monkeypatch.setattr(client.store, "listen", absence.before(client.store.listen))
        else:
            absence = Absence(own_redis, 2)
            monkeypatch.setattr(client.store, "ask", absence.before(client.store.ask))
        waiting = asyncio.create_task(asyncio.to_thread(execution.get_result, timeout=LIMIT))
        await until(absence.over.is_set)
        async with running(ours):
            assert await waiting == 10


async def test_a_waiter_gives_up_a_redis_that_stays_away(
    ours: Docket, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(results, "_LOOK_AGAIN", 0.2)
    monkeypatch.setattr(results, "_TRY_AGAIN", 0.1)
    monkeypatch.setattr(results, "_LONGEST_OUTAGE", 0.5)
    execution = await ours.add("ten")()
    waiting = asyncio.create_task(execution.get_result())
    await until(lambda: listens(ours, execution.key))
    await asyncio.to_thread(own_redis.stop)
    began = asyncio.get_running_loop().time()
    with pytest.raises(ConnectionFailed):
        await asyncio.wait_for(waiting, 5)
    assert asyncio.get_running_loop().time() - began > 0.4
    with pytest.raises(ConnectionFailed):  # at first it is said at once
        await asyncio.wait_for(execution.get_result(), 2)
    await asyncio.to_thread(own_redis.start)


async def test_a_cancellation_asked_for_right_after_a_restart_reaches_the_body(
    ours: Docket, own_redis: RedisServer
):
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def endless() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    async with running(ours):
        await ours.add(endless, key="k")()
        await begun.wait()
        await asyncio.to_thread(own_redis.stop)
        await asyncio.to_thread(own_redis.start)
        await ours.cancel("k")
        await asyncio.wait_for(stopped.wait(), 5)


async def test_a_worker_that_starts_before_redis_waits_for_it(own_redis: RedisServer):
    ran = asyncio.Event()

    async def note() -> None:
        ran.set()

    own_redis.stop()
    async with Docket("outage", own_redis.url) as docket:
        docket.register(note)
        from docket import Worker

        async with Worker(docket, drain_timeout=timedelta(0)) as worker:
            run = asyncio.create_task(worker.run_forever())
            await asyncio.sleep(0.1)
            assert not run.done()
            await asyncio.to_thread(own_redis.start)
            await docket.add(note)()
            await asyncio.wait_for(ran.wait(), 5)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run


async def test_a_worker_can_leave_while_redis_is_away(ours: Docket, own_redis: RedisServer):
    async with running(ours):
        await asyncio.to_thread(own_redis.kill)
    await asyncio.to_thread(own_redis.start)


async def test_a_stream_that_somebody_deleted_is_made_anew(ours: Docket):
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    async with running(ours) as worker:
        await until(lambda: worker.exchange.reading)
        for number in range(3):
            async with ours.redis() as redis:
                await redis.delete(ours.keys.stream, ours.keys.redelivered)
            await (await ours.add(note)(number)).get_result(timeout=LIMIT)
    assert ran == [0, 1, 2]


async def test_a_key_whose_entry_was_trimmed_away_can_be_added_again(ours: Docket):
    ran: list[str] = []

    async def note(what: str) -> None:
        ran.append(what)

    await ours.add(note, key="k")("trimmed")
    async with ours.redis() as redis:
        await redis.xtrim(ours.keys.stream, maxlen=0, approximate=False)
    execution = await ours.add(note, key="k")("again")
    assert execution.disposition == "scheduled"
    async with running(ours):
        await execution.get_result(timeout=LIMIT)
    assert ran == ["again"]


REFUSALS = {
    "as a replica during a failover": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
    "out of memory": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
}


@pytest.mark.parametrize("why", REFUSALS)
async def test_a_redis_that_refuses_to_write_is_waited_for(ours: Docket, why: str):
    refuse, serve = REFUSALS[why]
    gate = Gate()
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    ours.register(gate, names=["gate"])
    async with running(ours) as worker:
        execution = await ours.add("gate")("x")
        await gate.has_begun()
        later = [await ours.add(note, when=soon(milliseconds=50))(number) for number in range(5)]
        async with ours.redis() as redis:
            await redis.execute_command(*refuse)
            await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await asyncio.sleep(0.2)
            gate.open.set()
            await until(lambda: not worker.claims)
            await asyncio.sleep(0.2)
            await redis.execute_command(*serve)
        assert await execution.get_result(timeout=LIMIT) == "x"
        for each in later:
            await each.get_result(timeout=LIMIT)
    assert sorted(ran) == list(range(5))
