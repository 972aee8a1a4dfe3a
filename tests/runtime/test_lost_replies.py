"""Redis did what it was asked and the reply was lost on the way: nothing happens twice, nothing is forgotten."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from chaos.proxy import LossyProxy
from docket import Disposition, Docket, Retry, Worker
from docket.store import scripts
from tests.redis_server import RedisServer
from tests.runtime.support import Gate, finish, running, work_off


@pytest.fixture
async def proxy(redis_server: RedisServer, short_folder: Path) -> AsyncIterator[LossyProxy]:
    async with LossyProxy(short_folder, redis_server.socket_path) as proxy:
        yield proxy


@pytest.fixture
async def behind(docket: Docket, docket_name: str, proxy: LossyProxy) -> AsyncIterator[Docket]:
    """The same docket, reached through the proxy; its scripts are known to the server already."""
    async with Docket(name=docket_name, url=proxy.url) as behind:
        behind.core.registry = docket.core.registry
        async with Worker(behind) as worker:
            await finish(worker)
        await behind.add("trace", key="first")("the script is loaded")
        await behind.cancel("first")
        yield behind


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_an_exchange_whose_reply_is_lost_runs_everything_once(
    docket: Docket, behind: Docket, proxy: LossyProxy, times: int
):
    ran: Counter[int] = Counter()

    async def note(number: int) -> None:
        ran[number] += 1

    executions = [await docket.add(note)(number) for number in range(40)]
    async with Worker(behind, concurrency=4) as worker:
        proxy.lose(scripts.EXCHANGE, times)
        await finish(worker)
    assert proxy.lost == times
    assert ran == Counter(range(40))
    for execution in executions:
        await execution.sync()
        assert execution.state == "completed"


async def test_a_lost_settlement_is_not_taken_for_a_lapsed_lease(
    docket: Docket, behind: Docket, proxy: LossyProxy, caplog: pytest.LogCaptureFixture
):
    gate = Gate()
    docket.register(gate, names=["gate"])
    async with running(behind):
        execution = await docket.add("gate")("x")
        await gate.has_begun()
        proxy.lose(scripts.EXCHANGE)
        gate.open.set()
        assert await execution.get_result(timeout=timedelta(seconds=5)) == "x"
        await docket.add("trace")("another exchange")
    assert "lapsed" not in caplog.text


async def test_a_retry_whose_settlement_is_lost_counts_one_attempt(
    docket: Docket, behind: Docket, proxy: LossyProxy
):
    attempts: list[int] = []

    async def fails_twice(retry: Retry = Retry(attempts=3)) -> str:
        attempts.append(retry.attempt)
        if retry.attempt == 1:
            proxy.lose(scripts.EXCHANGE)
        if retry.attempt < 3:
            raise ValueError("again")
        return "done"

    execution = await docket.add(fails_twice)()
    async with Worker(behind) as worker:
        await finish(worker)
    assert attempts == [1, 2, 3]
    assert await execution.get_result() == "done"


async def test_an_add_whose_reply_is_lost_is_one_execution(behind: Docket, proxy: LossyProxy):
    proxy.lose(scripts.SCHEDULE)
    execution = await behind.add("trace", key="once")("hello")
    assert proxy.lost == 1
    assert execution.disposition is Disposition.SCHEDULED
    assert execution.state == "queued"
    assert [each.key for each in (await behind.snapshot()).future] == ["once"]
    await behind.clear()


@pytest.mark.parametrize("verb", ["add", "replace"])
async def test_an_add_whose_reply_is_lost_until_it_has_run_runs_once(
    docket: Docket, behind: Docket, proxy: LossyProxy, verb: str
):
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    docket.register(note)
    async with Worker(docket) as worker:

        async def it_has_run() -> None:
            await finish(worker)

        proxy.lose(scripts.SCHEDULE, before_the_drop=it_has_run)
        schedule = behind.add(note, key="k") if verb == "add" else behind.replace(note, None, "k")
        execution = await schedule(1)
        await finish(worker)
    assert execution.disposition is Disposition.SCHEDULED
    assert ran == [1]


async def test_add_many_whose_reply_is_lost_schedules_each_call_once(
    docket: Docket, behind: Docket, proxy: LossyProxy
):
    ran: Counter[int] = Counter()

    async def note(number: int) -> None:
        ran[number] += 1

    proxy.lose(scripts.SCHEDULE)
    executions = await behind.add_many([behind.call(note)(number) for number in range(50)])
    assert {each.disposition for each in executions} == {Disposition.SCHEDULED}
    await work_off(docket)
    assert ran == Counter(range(50))


async def test_a_cancel_whose_reply_is_lost_has_cancelled(behind: Docket, proxy: LossyProxy):
    execution = await behind.add("trace", key="k")("never")
    proxy.lose(scripts.CANCEL)
    await behind.cancel("k")
    await execution.sync()
    assert execution.state == "cancelled"


async def test_an_enlisting_whose_reply_is_lost_is_one_worker_on_the_roll(
    docket: Docket, behind: Docket, proxy: LossyProxy
):
    proxy.lose(scripts.ENLIST)
    async with running(behind, name="w"):
        assert [each.name for each in await docket.workers()] == ["w"]
    assert await docket.workers() == []


async def test_a_worker_that_loses_every_connection_again_and_again_runs_everything_once(
    docket: Docket, behind: Docket, proxy: LossyProxy
):
    ran: Counter[int] = Counter()

    async def note(number: int) -> None:
        ran[number] += 1
        if number % 50 == 0:
            proxy.drop_all()
        await asyncio.sleep(0.001)

    await docket.add_many([docket.call(note)(number) for number in range(500)])
    async with Worker(behind, concurrency=10) as worker:
        await finish(worker, 15)
    assert ran == Counter(range(500))
