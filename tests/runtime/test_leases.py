"""A claim holds while its worker is heard of; who was not heard of is fenced."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from docket import Docket, Execution, Worker
from docket.context import current_execution
from docket.store import scripts
from docket.store.blocking import BlockingStore
from docket.store.ledger import lease_ms, renewal_interval
from docket_runtime.leases import LeaseKeeper
from docket_runtime.surroundings import Surroundings
from tests.redis_server import RedisServer
from tests.runtime.support import NO_TIME, SHORT, Gate, Watched, running, until, work_off

LIMIT = timedelta(seconds=5)


def go_silent(worker: Worker) -> None:
    """Nobody renews this worker's lease any more, as if its process had been stopped."""
    worker.desks[0].keeper.close()


async def is_off_the_roll(docket: Docket, worker_id: str, within: float = 5) -> None:
    async with docket.redis() as redis, asyncio.timeout(within):
        while await redis.zscore(docket.keys.workers, worker_id) is not None:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_task_longer_than_the_redelivery_timeout_runs_once(docket: Docket, kind: str):
    ran: list[str] = []

    async def long() -> str:
        ran.append("async")
        await asyncio.sleep(1.2)
        return "done"

    def long_sync() -> str:
        ran.append("sync")
        time.sleep(1.2)
        return "done"

    async with (
        running(docket, redelivery_timeout=timedelta(milliseconds=200)),
        running(docket, redelivery_timeout=timedelta(milliseconds=200)),
    ):
        execution = await docket.add(long if kind == "async" else long_sync)()
        assert await execution.get_result(timeout=LIMIT) == "done"
    assert len(ran) == 1


async def test_a_blocked_loop_beyond_the_redelivery_timeout_runs_once(
    docket: Docket, docket_name: str, redis_url: str
):
    """Another worker, in a thread with a loop of its own, would take the work over if it could."""
    ran: list[str] = []
    stop = threading.Event()

    async def blocks() -> None:
        ran.append(threading.current_thread().name)
        time.sleep(1.5)

    async def other_worker() -> None:
        async with Docket(docket_name, redis_url) as other:
            other.register(blocks)
            async with running(other, redelivery_timeout=SHORT):
                while not stop.is_set():
                    await asyncio.sleep(0.02)

    async with Worker(docket, redelivery_timeout=SHORT) as worker:
        await docket.add(blocks)()
        thread = threading.Thread(target=lambda: asyncio.run(other_worker()), name="other")
        run = asyncio.create_task(worker.run_until_finished())
        await until(lambda: worker.claims or ran)
        thread.start()
        await asyncio.wait_for(run, 10)
        stop.set()
        await asyncio.to_thread(thread.join, 10)
    assert len(ran) == 1


async def test_a_long_task_in_a_drain_beyond_the_redelivery_timeout_runs_once(docket: Docket):
    ran: list[int] = []
    begun = asyncio.Event()

    async def long() -> str:
        ran.append(1)
        begun.set()
        await asyncio.sleep(1.2)
        return "done"

    async with running(docket, redelivery_timeout=timedelta(milliseconds=200)) as other:
        assert other
        async with Worker(docket, redelivery_timeout=timedelta(milliseconds=200)) as worker:
            execution = await docket.add(long)()
            run = asyncio.create_task(worker.run_forever())
            await begun.wait()
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
        assert await execution.get_result(timeout=LIMIT) == "done"
    assert ran == [1]


async def test_a_lapsed_lease_is_redelivered_once_and_its_late_settlement_changes_nothing(
    docket: Docket, docket_name: str, redis_url: str, caplog: pytest.LogCaptureFixture
):
    first, second = Gate(), Gate()
    second.open.set()
    begun: list[tuple[str, bool, int]] = []

    async def body(name: str) -> str:
        gate = first if not begun else second
        execution: Execution = current_execution.get()
        begun.append((execution.worker or "", execution.redelivered, execution.attempt))
        await gate(name)
        return f"by {execution.worker}"

    async with running(docket, name="late", redelivery_timeout=SHORT) as late:
        execution = await docket.add(body, key="k")("x")
        await first.has_begun()
        old_id = late.worker_id
        go_silent(late)
        async with Docket(docket_name, redis_url) as other:
            other.register(body)
            async with running(other, name="fresh", redelivery_timeout=SHORT, concurrency=1):
                await is_off_the_roll(docket, old_id)
                late_exchange = late.exchange
                assert await execution.get_result(timeout=LIMIT) in ("by fresh", "by late")
                result = await execution.get_result()
                first.open.set()
                await until(lambda: not late.claims and late_exchange.settled)
                assert await execution.get_result() == result
                await execution.sync()
                assert execution.state == "completed"
    assert len(begun) == 2 and begun[1][1] is True and begun[1][2] == 1
    assert "lapsed" in caplog.text


async def test_a_fenced_failure_does_not_overwrite_a_success(
    docket: Docket, docket_name: str, redis_url: str
):
    gate = Gate()
    runs: Counter[str] = Counter()

    async def body() -> str:
        runs["all"] += 1
        if runs["all"] == 1:
            await gate()
            raise ValueError("too late")
        return "in time"

    async with running(docket, redelivery_timeout=SHORT) as late:
        execution = await docket.add(body)()
        await gate.has_begun()
        go_silent(late)
        await is_off_the_roll_after_sweep(docket, late.worker_id, docket_name, redis_url, body)
        assert await execution.get_result(timeout=LIMIT) == "in time"
        gate.open.set()
        await until(lambda: not late.claims and late.exchange.settled)
        assert await execution.get_result(timeout=LIMIT) == "in time"
    assert runs["all"] == 2


async def is_off_the_roll_after_sweep(
    docket: Docket, worker_id: str, docket_name: str, redis_url: str, *tasks: Any
) -> None:
    async with Docket(docket_name, redis_url) as other:
        for task in tasks:
            other.register(task)
        counts = Watched()
        surroundings = Surroundings(board=counts)
        async with Worker(
            other, redelivery_timeout=SHORT, drain_timeout=NO_TIME, surroundings=surroundings
        ) as worker:
            run = asyncio.create_task(worker.run_forever())
            await is_off_the_roll(docket, worker_id)
            await until(lambda: counts.completed >= 1)
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)


async def test_a_worker_whose_lease_lapsed_goes_on_working_under_another_id(docket: Docket):
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    async with running(docket) as worker:
        await (await docket.add(note)(0)).get_result(timeout=LIMIT)
        before = worker.worker_id
        async with docket.redis() as redis:
            await redis.zadd(docket.keys.workers, {before: 1})
        await docket.store.ask(scripts.sweep(docket.keys, 3))
        executions = [await docket.add(note)(number) for number in range(1, 20)]
        for execution in executions:
            await execution.get_result(timeout=LIMIT)
        await until(lambda: worker.worker_id != before, 7)
        assert [each.worker_id for each in await docket.workers()] == [worker.worker_id]
    assert sorted(ran) == list(range(20))


async def test_work_delivered_to_a_worker_that_is_not_on_the_roll_is_not_lost(docket: Docket):
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    await work_off(docket)
    for number in range(3):
        await docket.add(note)(number)
    async with docket.redis() as redis:
        await redis.execute_command(
            "XREADGROUP", "GROUP", "docket-workers", "ghost/123456", "COUNT", 2, "STREAMS", docket.keys.stream, ">"
        )  # fmt: skip
    await work_off(docket, 5, redelivery_timeout=SHORT)
    assert sorted(ran) == [0, 1, 2]


async def test_what_an_idle_worker_is_given_after_its_lease_lapsed_is_not_lost(docket: Docket):
    """Its blocked read goes on under the old id: Redis serves it although that id was struck off."""
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    docket.register(note)
    async with running(docket, redelivery_timeout=SHORT) as worker:
        await until(lambda: worker.exchange.reading and worker.desks[0].reader._client_id is not None)
        async with docket.redis() as redis:
            await redis.zadd(docket.keys.workers, {worker.worker_id: 1})
        await docket.store.ask(scripts.sweep(docket.keys, 3))
        executions = [await docket.add(note)(number) for number in range(3)]
        for execution in executions:
            await execution.get_result(timeout=LIMIT)
    assert sorted(ran) == [0, 1, 2]


async def test_a_quarter_of_missed_renewals_does_not_lapse_a_lease():
    for timeout in (timedelta(milliseconds=200), timedelta(seconds=3), timedelta(minutes=5)):
        interval = renewal_interval(timeout)
        assert lease_ms(timeout, interval) >= (timeout + interval) / timedelta(milliseconds=1)


async def test_an_outage_shorter_than_the_redelivery_timeout_runs_nothing_twice(
    own_redis: RedisServer, docket_name: str
):
    ran: list[int] = []

    async def note(number: int) -> str:
        ran.append(number)
        await asyncio.sleep(1.0)
        return "done"

    async with (
        Docket(docket_name, own_redis.url) as docket,
        running(docket, redelivery_timeout=timedelta(seconds=1), concurrency=1),
        running(docket, redelivery_timeout=timedelta(seconds=1), concurrency=1),
    ):
        executions = [await docket.add(note)(number) for number in range(2)]
        await until(lambda: len(ran) == 2)
        own_redis.pause()
        await asyncio.sleep(0.8)
        own_redis.resume()
        for execution in executions:
            assert await execution.get_result(timeout=LIMIT) == "done"
    assert sorted(ran) == [0, 1]


async def enlisted(docket: Docket, *, lease_ms: int) -> None:
    """The worker w/1 is on the roll."""
    await docket.store.ask(
        scripts.enlist(docket.keys, "w/1", lease_ms=lease_ms, host="h", process="p", concurrency=1, tasks=())
    )


def keeper_of(
    docket: Docket, *, milliseconds: int, vouched: Callable[[], bool] = lambda: False
) -> LeaseKeeper:
    """One that renews a lease of 300 ms so often."""
    return LeaseKeeper(
        docket.store.address,
        docket.keys,
        interval=timedelta(milliseconds=milliseconds),
        lease=300,
        vouched=vouched,
        lapsed=lambda: None,
    )


async def test_the_keeper_renews_until_it_is_closed(docket: Docket):
    await enlisted(docket, lease_ms=300)
    keeper = keeper_of(docket, milliseconds=50)
    keeper.keep("w/1")
    try:
        async with docket.redis() as redis:
            first = await redis.zscore(docket.keys.workers, "w/1")
            async with asyncio.timeout(2):
                while await redis.zscore(docket.keys.workers, "w/1") == first:
                    await asyncio.sleep(0.01)
    finally:
        keeper.close()
    await docket.store.ask(scripts.hand_over(docket.keys, "w/1", "over", max_crashes=3, begun=()))


async def test_an_error_that_is_none_of_redis_ends_no_renewal(
    docket: Docket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Such as what a credential provider raises at a reconnect."""
    await enlisted(docket, lease_ms=300)
    asked: list[Any] = []

    class Sealed(BlockingStore):
        def ask(self, request: Any, **options: Any) -> Any:
            asked.append(request)
            if len(asked) <= 2:
                raise LookupError("the vault is sealed")
            return super().ask(request, **options)

    monkeypatch.setattr("docket_runtime.leases.BlockingStore", Sealed)
    keeper = keeper_of(docket, milliseconds=10)
    keeper.keep("w/1")
    try:
        await until(lambda: len(asked) == 5)
    finally:
        keeper.close()
    assert (
        caplog.text.count("could not renew the lease, trying again") == 1 and "vault is sealed" in caplog.text
    )
    await docket.store.ask(scripts.hand_over(docket.keys, "w/1", "over", max_crashes=3, begun=()))


async def test_whoever_is_vouched_for_does_not_renew(docket: Docket):
    await enlisted(docket, lease_ms=60_000)
    asked = threading.Event()

    def vouched() -> bool:
        asked.set()
        return True

    keeper = keeper_of(docket, milliseconds=10, vouched=vouched)
    async with docket.redis() as redis:
        before = await redis.zscore(docket.keys.workers, "w/1")
        keeper.keep("w/1")
        assert await asyncio.to_thread(asked.wait, 2)
        keeper.close()
        assert await redis.zscore(docket.keys.workers, "w/1") == before
    await docket.store.ask(scripts.hand_over(docket.keys, "w/1", "over", max_crashes=3, begun=()))


async def test_a_lease_is_renewed_for_who_is_on_the_roll_and_for_nobody_else(docket: Docket):
    await docket.store.ask(
        scripts.enlist(
            docket.keys, "a/1", lease_ms=60_000, host="h", process="p", concurrency=1, tasks=("t",)
        )
    )
    assert await docket.store.ask(scripts.renew(docket.keys, ["a/1", "b/2", "a/1"], 60_000)) == [1, 0, 1]
    async with docket.redis() as redis:
        assert await redis.zrange(docket.keys.workers, 0, -1) == [b"a/1"]
    await docket.store.ask(scripts.hand_over(docket.keys, "a/1", "over", max_crashes=3, begun=()))
    assert await docket.store.ask(scripts.renew(docket.keys, ["a/1"], 60_000)) == [0]


@pytest.mark.parametrize("flushed", [False, True], ids=["given to others", "nobody's"])
async def test_a_body_that_others_run_by_now_is_stopped(
    docket: Docket, docket_name: str, redis_url: str, flushed: bool
):
    """What nobody else can run, since Redis has forgotten it, comes to its end."""
    gate = Gate()
    told: list[str] = []

    async def body() -> None:
        try:
            await gate("first" if not told else "second")
            told.append("ended")
        except asyncio.CancelledError:
            told.append("stopped")
            raise

    async with running(docket, name="late", redelivery_timeout=SHORT) as late:
        await docket.add(body, key="k")()
        await gate.has_begun()
        go_silent(late)
        if flushed:
            async with docket.redis() as redis:
                await redis.delete(docket.keys.runs("k"), docket.keys.stream, docket.keys.workers)
        else:
            async with Docket(docket_name, redis_url) as other:
                await other.store.ask(
                    scripts.hand_over(other.keys, late.worker_id, "lapsed", max_crashes=3, begun=())
                )
        struck_off = late.worker_id
        late.exchange.reconnected()
        await until(lambda: late.worker_id != struck_off)
        if flushed:
            assert not told
            gate.open.set()
        await until(lambda: told)
        assert told[0] == ("ended" if flushed else "stopped")
        gate.open.set()
