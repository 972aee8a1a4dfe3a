"""Reports of progress: atomic, counted once, fenced, and nothing of them is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from chaos.proxy import LossyProxy
from docket import CurrentExecution, Docket, Execution, Perpetual, Progress, Retry, Worker
from docket.execution import ExecutionProgress
from docket.store import scripts
from docket.sync import Docket as BlockingDocket
from tests.redis_server import RedisServer
from tests.runtime.support import Gate, finish, running, until, work_off


async def hash_of(docket: Docket, key: str) -> dict[bytes, bytes]:
    async with docket.redis() as redis:
        found: Any = await redis.execute_command("HGETALL", docket.keys.progress(key))
        return found


class Reporter:
    """A task that keeps the progress it was given, reports once, and goes on when it is told to."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.given: list[ExecutionProgress] = []

    async def __call__(
        self, progress: ExecutionProgress = Progress(), retry: Retry = Retry(attempts=1)
    ) -> None:
        self.given.append(progress)
        await progress.increment(5)
        await self.gate("")


async def test_increments_of_many_tasks_and_threads_add_up(docket: Docket, docket_name: str, redis_url: str):
    """From the loop, from the threads of a sync task, from clients of both kinds, all at once."""
    gate = Gate()

    async def held() -> None:
        await gate()

    def in_threads(progress: Any = Progress()) -> int:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: progress.increment(), range(400)))
        progress.sync()
        return progress.current

    execution = await docket.add(held, key="held")()
    threaded = await docket.add(in_threads)()

    def from_outside() -> None:
        with BlockingDocket(docket_name, redis_url) as blocking:
            found = blocking.get_execution("held")
            assert found is not None
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda _: found.progress.increment(3), range(200)))

    async with running(docket):
        await gate.has_begun()
        await asyncio.gather(
            asyncio.to_thread(from_outside),
            *(execution.progress.increment() for _ in range(300)),
        )
        await execution.progress.sync()
        assert execution.progress.current == 900
        gate.open.set()
        assert await threaded.get_result(timeout=timedelta(seconds=10)) == 400
        await execution.get_result(timeout=timedelta(seconds=10))


async def test_a_report_whose_reply_was_lost_counts_once(
    own_redis: RedisServer, short_folder: Path, docket_name: str
):
    async with (
        LossyProxy(short_folder, own_redis.socket_path) as proxy,
        Docket(docket_name, own_redis.url) as docket,
        Docket(docket_name, proxy.url) as shaky,
    ):
        gate = Gate()
        await docket.add(gate, key="k")()
        async with running(docket):
            await gate.has_begun()
            execution = await shaky.get_execution("k")
            assert execution is not None
            for _ in range(5):
                proxy.lose(scripts.PROGRESS)
                await execution.progress.increment()
            assert proxy.lost == 5
            assert execution.progress.current == 5
            gate.open.set()
            await until(lambda: gate.inside == 0)


async def test_the_hash_has_the_documented_fields(docket: Docket):
    reporter = Reporter()
    execution = await docket.add(reporter, key="k")()
    async with running(docket):
        await reporter.gate.has_begun()
        fields = await hash_of(docket, "k")
        assert fields.keys() == {b"current", b"total", b"updated_at"}
        await reporter.given[0].set_message("")
        await reporter.given[0].set_total(7)
        fields = await hash_of(docket, "k")
        assert (fields[b"current"], fields[b"total"], fields[b"message"]) == (b"5", b"7", b"")
        assert fields[b"updated_at"].endswith(b"Z")
        await reporter.given[0].set_message(None)
        assert b"message" not in await hash_of(docket, "k")
        reporter.gate.open.set()
        await execution.get_result(timeout=timedelta(seconds=5))
    assert await hash_of(docket, "k") == {}


@pytest.mark.parametrize(
    "text", ["", 'a "quoted" \\ word', "ümläut 🙂", "line\nbreak\t\x00\x7f", "\udc80 alone"]
)
async def test_a_message_is_any_text(docket: Docket, text: str):
    async def says(progress: ExecutionProgress = Progress()) -> str | None:
        await progress.set_message(text)
        return progress.message

    execution = await docket.add(says)()
    ready = asyncio.Event()

    async def heard() -> list[str | None]:
        return [e["message"] async for e in execution.subscribe(ready=ready) if e["type"] == "progress"]

    hearing = asyncio.create_task(heard())
    await ready.wait()
    await work_off(docket)
    shown = text.replace("\udc80", "\\udc80")
    assert await execution.get_result() == shown
    assert await hearing == [None, shown]


async def ended_by_completion(docket: Docket, reporter: Reporter) -> None:
    async with running(docket):
        await reporter.gate.has_begun()
        reporter.gate.open.set()
        await until(lambda: reporter.gate.inside == 0)


async def ended_by_cancellation(docket: Docket, reporter: Reporter) -> None:
    async with running(docket):
        await reporter.gate.has_begun()
        await docket.cancel("k")
        assert await hash_of(docket, "k") == {}
        await until(lambda: reporter.gate.inside == 0)


async def ended_by_replacement(docket: Docket, reporter: Reporter) -> None:
    async with running(docket):
        await reporter.gate.has_begun()
        await docket.replace("trace", None, "k")("x")
        assert await hash_of(docket, "k") == {}
        reporter.gate.open.set()
        await until(lambda: reporter.gate.inside == 0)


async def ended_by_hand_over(docket: Docket, reporter: Reporter) -> None:
    async with running(docket):
        await reporter.gate.has_begun()
    assert await hash_of(docket, "k") == {}


async def ended_by_a_crash(docket: Docket, reporter: Reporter) -> None:
    async with running(docket) as worker:
        await reporter.gate.has_begun()
        call = scripts.hand_over(docket.keys, worker.worker_id, "it died", max_crashes=3, begun=None)
        await docket.store.ask(call)
        assert await hash_of(docket, "k") == {}
        reporter.gate.open.set()
        await until(lambda: reporter.gate.inside == 0)


async def ended_as_a_dead_letter(docket: Docket, reporter: Reporter) -> None:
    async with running(docket) as worker:
        await reporter.gate.has_begun()
        call = scripts.hand_over(docket.keys, worker.worker_id, "it died", max_crashes=1, begun=None)
        await docket.store.ask(call)
        assert [execution.key for execution in await docket.dead_letters()] == ["k"]
        assert await hash_of(docket, "k") == {}
        reporter.gate.open.set()
        await until(lambda: reporter.gate.inside == 0)


@pytest.mark.parametrize(
    "ended",
    [
        ended_by_completion,
        ended_by_cancellation,
        ended_by_replacement,
        ended_by_hand_over,
        ended_by_a_crash,
        ended_as_a_dead_letter,
    ],
)
async def test_whatever_ends_a_run_ends_its_progress(docket: Docket, ended: Callable[..., Any]):
    """Nothing is left, and the run that has ended cannot report any more."""
    reporter = Reporter()
    await docket.add(reporter, key="k")()
    await ended(docket, reporter)
    late = reporter.given[0]
    await late.increment()
    await late.set_message("I am still here")
    await late.set_total(3)
    assert (late.current, late.total, late.message) == (5, 100, None)
    assert await hash_of(docket, "k") == {}
    reporter.gate.open.set()
    await work_off(docket)
    await docket.purge_dead()
    async with docket.redis() as redis:
        assert await redis.execute_command("EXISTS", docket.keys.progress("k")) == 0


async def test_a_fenced_worker_cannot_write_into_the_next_run(docket: Docket):
    reporter = Reporter()
    await docket.add(reporter, key="k")()
    async with running(docket) as lapsed:
        await reporter.gate.has_begun()
        call = scripts.hand_over(docket.keys, lapsed.worker_id, "it was silent", max_crashes=3, begun=())
        await docket.store.ask(call)
        async with running(docket):
            await reporter.gate.has_begun()
            await reporter.given[0].increment(40)
            await reporter.given[0].set_message("from the past")
            assert reporter.given[0].message is None
            await reporter.given[1].increment()
            fields = await hash_of(docket, "k")
            assert (fields[b"current"], fields.get(b"message")) == (b"6", None)
            reporter.gate.open.set()
            await until(lambda: reporter.gate.inside == 0)


async def test_a_dead_letter_that_is_tried_again_begins_at_nothing(docket: Docket):
    reporter = Reporter()
    await docket.add(reporter, key="k")()
    await ended_as_a_dead_letter(docket, reporter)
    await docket.retry_dead("k")
    await work_off(docket)
    assert [each.current for each in reporter.given] == [5, 5]


async def test_each_turn_of_a_perpetual_task_begins_at_nothing(docket: Docket):
    seen: list[int] = []

    async def turn(progress: ExecutionProgress = Progress(), perpetual: Perpetual = Perpetual()) -> None:
        await progress.increment(10)
        seen.append(progress.current)
        if len(seen) == 3:
            perpetual.cancel()

    await docket.add(turn, key="k")()
    await work_off(docket)
    assert seen == [10, 10, 10]


async def test_where_nothing_is_kept_nothing_is_written(docket_name: str, redis_url: str):
    """Also not by a worker whose own docket keeps results: the record says what it is kept for."""
    entered = Gate()

    async def task(progress: ExecutionProgress = Progress()) -> None:
        await progress.increment()
        await progress.increment()
        await entered()

    async with Docket(docket_name, redis_url, execution_ttl=timedelta(0)) as client:
        await client.add(task, key="k")()
    async with Docket(docket_name, redis_url) as docket:
        docket.register(task)
        async with running(docket) as worker:
            await entered.has_begun()
            assert await hash_of(docket, "k") == {}
            entered.open.set()
            await until(lambda: not worker.claims)


async def test_from_outside_it_counts_only_while_it_runs(docket: Docket):
    gate = Gate()
    execution = await docket.add(gate)()
    await execution.progress.increment()
    assert execution.progress.current == 0
    async with running(docket):
        await gate.has_begun()
        await execution.progress.increment()
        assert execution.progress.current == 1
        gate.open.set()
        await execution.get_result(timeout=timedelta(seconds=5))
    await execution.progress.increment()
    await execution.sync()
    assert execution.progress.current == 0


async def test_replies_in_another_order_do_not_turn_it_back(docket: Docket):
    progress = ExecutionProgress(docket, "k")
    progress.learn((b"2", b"100", None, b"2026-01-01T00:00:00.000002Z"))
    progress.learn((b"1", b"100", None, b"2026-01-01T00:00:00.000001Z"))
    assert progress.current == 2
    progress.learn((None, None, None, None))
    assert (progress.current, progress.total, progress.updated_at) == (0, 100, None)


async def test_a_sync_task_has_it_on_its_execution_and_in_its_dependencies(docket: Docket):
    from docket import Depends

    def halfway(progress: Any = Progress()) -> Any:
        progress.increment(50)
        return progress

    def task(execution: Any = CurrentExecution(), halfway: Any = Depends(halfway)) -> int:
        execution.progress.increment(1)
        halfway.sync()
        return halfway.current

    execution = await docket.add(task)()
    await work_off(docket)
    assert await execution.get_result() == 51


async def test_who_does_not_report_pays_nothing(docket: Docket):
    """Neither a key nor a field nor a round trip."""

    async def silent(progress: ExecutionProgress = Progress()) -> None: ...

    await docket.add(silent, key="k")()
    async with docket.redis() as redis:
        await redis.execute_command("CONFIG", "RESETSTAT")
        await work_off(docket)
        stats: Any = await redis.execute_command("INFO", "commandstats")
        assert "cmdstat_evalsha" in stats and "cmdstat_publish" in stats
        assert "cmdstat_hincrby" not in stats and stats["cmdstat_evalsha"]["calls"] < 12
        assert await redis.execute_command("HEXISTS", docket.keys.runs("k"), "progress") == 0


async def test_two_skins_of_one_execution_agree(docket: Docket, docket_name: str, redis_url: str):
    seen: list[Execution] = []
    gate = Gate()

    async def task(execution: Execution = CurrentExecution()) -> None:
        seen.append(execution)
        await execution.progress.increment(4)
        await gate()

    await docket.add(task, key="k")()
    async with Worker(docket) as worker:
        working = asyncio.create_task(finish(worker))
        await gate.has_begun()

        def outside() -> tuple[int, str]:
            with BlockingDocket(docket_name, redis_url) as blocking:
                found = blocking.get_execution("k")
                assert found is not None
                found.progress.set_message("seen from a thread")
                found.sync()
                return found.progress.current, repr(found.progress)

        current, shown = await asyncio.to_thread(outside)
        assert (current, shown) == (4, "<ExecutionProgress 'k' 4/100 'seen from a thread'>")
        await seen[0].sync()
        assert seen[0].progress.message == "seen from a thread"
        gate.open.set()
        await working
