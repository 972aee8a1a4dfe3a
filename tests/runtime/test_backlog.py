"""However much waits, no script keeps Redis from others for long, and nobody reads all of it to tell a part.

What a script costs is counted in commands that it carries out: unlike its time, that is the same on every machine.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from docket import ConcurrencyLimit, Docket, Perpetual, Worker
from docket.settings import DocketSettings
from docket.store import scripts
from docket.store.ledgers import AnyLedger, open_ledger
from docket.store.requests import Commands
from docket_runtime.automatic import AutomaticTasks
from docket_runtime.housekeeping import Housekeeping
from docket_runtime.roll import Roll
from docket_runtime.settings import WorkerSettings
from tests.runtime.support import finish, soon, until, work_off

MANY = 3000
MOST = 2500
"""Commands in one script, at half a microsecond to two each."""


async def nothing(what: Any = None) -> None: ...


async def each_their_own(customer: int, limit: ConcurrencyLimit = ConcurrencyLimit("customer")) -> None: ...


class Counted:
    """What this docket has asked of Redis: for each script, how many commands it carried out."""

    def __init__(self) -> None:
        self.scripts: list[tuple[str, int]] = []
        self.plain = 0

    def of(self, name: str) -> list[int]:
        return [count for script, count in self.scripts if script == name]

    @property
    def most(self) -> int:
        return max(count for _, count in self.scripts)


@asynccontextmanager
async def counted(docket: Docket, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Counted]:
    """Nobody else must be using the server meanwhile."""
    counted, ask = Counted(), docket.store.ask
    async with docket.redis() as redis:

        async def commands() -> int:
            stats: dict[str, Any] = await redis.info("commandstats")
            return sum(row["calls"] for name, row in stats.items() if name != "cmdstat_info")

        async def counting(request: scripts.Call | Commands) -> Any:
            before = await commands()
            reply = await ask(request)
            if isinstance(request, scripts.Call):
                counted.scripts.append((request.script.name, await commands() - before))
            else:
                counted.plain += len(request.commands)
            return reply

        with monkeypatch.context() as patched:
            patched.setattr(docket.store, "ask", counting)
            yield counted


async def fill(docket: Docket) -> int:
    """Many of everything that waits. Says how many."""
    await docket.add_many(docket.call(nothing, key=f"due{n}")(n) for n in range(MANY))
    await docket.add_many(docket.call(nothing, soon(hours=1), f"parked{n}")(n) for n in range(MANY))
    await docket.add_many(docket.call(nothing, key=f"high{n}", priority="high")(n) for n in range(MANY))
    return 3 * MANY


# --- clear ----------------------------------------------------------------------------------------------------------


async def test_clear_cancels_a_few_at_a_time_of_all_that_waits(
    docket: Docket, monkeypatch: pytest.MonkeyPatch
):
    waiting = await fill(docket)
    async with counted(docket, monkeypatch) as asked:
        assert await docket.clear() == waiting
    assert asked.most <= MOST
    assert (await docket.snapshot()).total_tasks == 0


async def test_clear_is_not_held_up_by_lines_in_which_nobody_stands(
    docket: Docket, monkeypatch: pytest.MonkeyPatch
):
    async with docket.redis() as redis:
        await redis.sadd(docket.keys.limits, *(f"customer:{n}" for n in range(MANY)))
    async with counted(docket, monkeypatch) as asked:
        assert await docket.clear() == 0
    assert asked.most <= MOST and len(asked.scripts) > 1
    async with docket.redis() as redis:
        await redis.delete(docket.keys.limits)


async def held_by_a_rule(docket: Docket, many: int) -> str:
    """What a worker would have put there, one by one. Returns the rule."""
    await docket.add_many(docket.call(nothing, soon(seconds=-1), f"held{n}")(n) for n in range(many))
    await docket.strike(nothing, hold=True)
    (rule,) = docket.strike_list
    async with docket.redis() as redis:
        await redis.zadd(docket.keys.held(rule.id), {f"held{n}": n for n in range(many)})
        await redis.delete(docket.keys.stream)
        for n in range(many):
            await redis.hset(docket.keys.runs(f"held{n}"), "held", rule.id)
            await redis.hdel(docket.keys.runs(f"held{n}"), "entry")
    return rule.id


async def test_clear_takes_what_a_rule_holds_and_what_one_that_was_just_lifted_has_held(docket: Docket):
    rule = await held_by_a_rule(docket, 700)
    await docket.store.ask(scripts.strike(docket.keys, docket.strike_list.rules.version, [rule], None))
    async with docket.redis() as redis:
        assert (await redis.zcard(docket.keys.held(rule)), await redis.zcard(docket.keys.queue)) == (200, 500)
    assert (await docket.snapshot()).total_tasks == 700
    assert await docket.clear() == 700


# --- strikes --------------------------------------------------------------------------------------------------------


async def test_what_a_lifted_rule_held_goes_back_in_pieces_and_all_of_it(
    docket: Docket, monkeypatch: pytest.MonkeyPatch
):
    rule = await held_by_a_rule(docket, 1700)
    async with counted(docket, monkeypatch) as asked:
        assert await docket.restore(nothing) is True
    assert len(asked.of("strike")) == 1 and len(asked.of("release")) == 4
    async with docket.redis() as redis:
        assert await redis.zcard(docket.keys.queue) == 1700
        assert await redis.exists(docket.keys.held(rule), docket.keys.lifted) == 0
    await work_off(docket)


async def test_whoever_lifts_a_rule_and_dies_half_way_leaves_the_rest_to_the_next_sweep(
    docket: Docket, ledger: AnyLedger
):
    rule = await held_by_a_rule(docket, 1200)
    await docket.store.ask(scripts.strike(docket.keys, docket.strike_list.rules.version, [rule], None))
    async with docket.redis() as redis:
        assert await redis.smembers(docket.keys.lifted) == {rule.encode()}
        assert (await ledger.figures()).backlog == 1200
        await ledger.sweep(3)
        await ledger.sweep(3)
        assert await redis.zcard(docket.keys.queue) == 1200
        assert await redis.exists(docket.keys.held(rule), docket.keys.lifted) == 0
    await work_off(docket)


# --- limits ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def ledger(docket: Docket, docket_name: str, redis_url: str) -> AsyncIterator[AnyLedger]:
    async with open_ledger(DocketSettings(docket_name, redis_url)) as ledger:
        yield ledger


async def test_a_limit_that_is_lifted_lets_in_a_part_at_a_time_and_nobody_is_forgotten(
    docket: Docket, monkeypatch: pytest.MonkeyPatch
):
    ran: list[int] = []

    async def limited(number: int, limit: ConcurrencyLimit = ConcurrencyLimit(1, scope="narrow")) -> None:
        ran.append(number)

    docket.register(limited)
    await docket.set_limit("narrow:limited", 0)
    await docket.add_many(docket.call(limited, key=f"k{n}")(n) for n in range(1000))
    (limit,) = await docket.limits()
    assert limit.waiting == 1000
    async with counted(docket, monkeypatch) as asked:
        await docket.set_limit(limit.name, 100_000)
    assert asked.most <= 6000
    async with docket.redis() as redis:
        assert await redis.xlen(docket.keys.redelivered) < 1000
    async with Worker(docket, concurrency=50) as worker:
        await finish(worker)
    assert sorted(ran) == list(range(1000))
    await docket.reset_limit(limit.name)


async def test_how_many_wait_costs_no_more_with_a_line_for_each_customer(
    docket: Docket, ledger: AnyLedger, monkeypatch: pytest.MonkeyPatch
):
    docket.register(each_their_own)
    for customer in range(150):
        await docket.add(each_their_own, key=f"first{customer}")(customer)
    async with Worker(docket, concurrency=1) as worker:
        await finish(worker)
    async with docket.redis() as redis:
        await redis.sadd(docket.keys.limits, *(f"c{n}" for n in range(MANY)))
        await redis.set(docket.keys.waiters, 7)
    async with counted(docket, monkeypatch) as asked:
        await docket.store.ask(scripts.figures(docket.keys))
    assert asked.most < 60
    assert (await ledger.figures()).waiting == 7
    async with docket.redis() as redis:
        await redis.delete(docket.keys.limits)
    # With few lines nobody relies on having counted, and the sweep puts the count right.
    assert (await ledger.figures()).waiting == 0
    await ledger.sweep(3)
    async with docket.redis() as redis:
        assert await redis.exists(docket.keys.waiters) == 0


# --- workers that know many tasks -----------------------------------------------------------------------------------


async def test_a_worker_tells_of_its_tasks_a_few_hundred_at_a_time(
    docket: Docket, monkeypatch: pytest.MonkeyPatch
):
    names = [f"task{n}" for n in range(MANY)]
    docket.register(nothing, names=names)
    roll = Roll(docket.store, docket.keys, docket.registry, "w", WorkerSettings(), 60_000, False)  # pyright: ignore[reportArgumentType]
    roll.be_new()
    async with counted(docket, monkeypatch) as asked:
        await roll.enlist()
    assert max(asked.of("enlist")) < 600
    (worker,) = await docket.workers()
    assert worker.tasks >= {*names}
    async with docket.redis() as redis:
        assert await redis.sismember(docket.keys.tasks(roll.worker_id), names[-1])
        assert await redis.sismember(docket.keys.known, names[-1])
        async with counted(docket, monkeypatch) as asked:
            await roll.leave()
        assert asked.most < 60
        assert await redis.exists(docket.keys.tasks(roll.worker_id)) == 0


async def test_orphans_are_adopted_a_few_hundred_at_a_time_and_all_of_them(
    docket: Docket, monkeypatch: pytest.MonkeyPatch
):
    await docket.add_many(docket.call("later known")(n) for n in range(900))
    await work_off(docket)
    assert (await docket.snapshot()).dead and (await docket.snapshot(limit=5)).omitted == 895
    docket.register(nothing, names=["later known"])
    roll = Roll(docket.store, docket.keys, docket.registry, "w", WorkerSettings(), 60_000, False)  # pyright: ignore[reportArgumentType]
    roll.be_new()
    async with counted(docket, monkeypatch) as asked:
        await roll.enlist()
    assert asked.most <= MOST and len(asked.of("enlist")) == 5
    assert await docket.dead_letters() == []
    await roll.leave()
    await work_off(docket)


async def test_automatic_tasks_are_added_in_batches(docket: Docket, monkeypatch: pytest.MonkeyPatch):
    async def again(perpetual: Perpetual = Perpetual(every=timedelta(hours=1), automatic=True)) -> None: ...

    docket.register(again, names=[f"again{n}" for n in range(1000)])
    async with counted(docket, monkeypatch) as asked:
        adding = asyncio.create_task(AutomaticTasks(docket, docket.registry).run())
        await until(lambda: len(asked.of("schedule")) >= 5)
        adding.cancel()
        await asyncio.gather(adding, return_exceptions=True)
    assert len(asked.scripts) == 5
    assert await docket.clear() == 1000


# --- sweeping -------------------------------------------------------------------------------------------------------


async def lapsed(docket: Docket, many: int) -> None:
    for n in range(many):
        await docket.store.ask(
            scripts.enlist(
                docket.keys,
                f"w{n}/1",
                lease_ms=-1000,
                host="h",
                process="p",
                concurrency=1,
                tasks=["nothing"],
            )
        )


async def test_where_a_host_has_died_its_workers_are_swept_a_few_at_a_time(
    docket: Docket, ledger: AnyLedger, monkeypatch: pytest.MonkeyPatch
):
    await lapsed(docket, 12)
    async with counted(docket, monkeypatch) as asked:
        rows = await docket.store.ask(scripts.sweep(docket.keys, 3))
    assert len(rows) == 5 and asked.most < 200
    assert len(await ledger.sweep(3)) == 7
    await lapsed(docket, 12)
    keeping = Housekeeping(
        docket.store,  # pyright: ignore[reportArgumentType]
        docket.keys,
        redelivery_timeout=timedelta(hours=1),
        max_crashes=3,
        vouched=lambda: False,
    )
    sweeping = asyncio.create_task(keeping.run())
    try:
        async with asyncio.timeout(5), docket.redis() as redis:
            while await redis.zcard(docket.keys.workers):
                await asyncio.sleep(0.01)
    finally:
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)


# --- settling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [[], [0], [60], [119]], ids=["none", "the oldest", "one", "the latest"])
async def test_what_is_settled_leaves_the_stream_at_once_whoever_still_runs(docket: Docket, held: list[int]):
    """Many are trimmed together, up to the oldest that runs; what came behind that one is deleted by name."""
    opened, ran = asyncio.Event(), set[int]()

    async def take_part(number: int) -> None:
        if number in held:
            await opened.wait()
        ran.add(number)

    async def left() -> int:
        return int(await redis.xlen(docket.keys.stream))

    docket.register(take_part)
    await docket.add_many([docket.call(take_part)(number) for number in range(120)])
    async with docket.redis() as redis:
        before = (await redis.info("commandstats")).get("cmdstat_xtrim", {"calls": 0})["calls"]
        async with Worker(docket, concurrency=20) as worker:
            work = asyncio.create_task(finish(worker))
            await until(lambda: len(ran) == 120 - len(held))
            async with asyncio.timeout(5):
                while await left() > len(held):
                    await asyncio.sleep(0.02)
            assert await left() == len(held)
            opened.set()
            await work
        trimmed = (await redis.info("commandstats"))["cmdstat_xtrim"]["calls"] - before
        assert await left() == 0 and trimmed > 0


# --- snapshots ------------------------------------------------------------------------------------------------------


async def test_a_limited_snapshot_counts_everything_and_reads_no_more_than_it_shows(
    docket: Docket, monkeypatch: pytest.MonkeyPatch
):
    await fill(docket)
    async with counted(docket, monkeypatch) as asked:
        few = await docket.snapshot(limit=10)
    assert asked.plain < MANY
    assert (few.total_tasks, len(few.future), few.omitted) == (3 * MANY, 10, 3 * MANY - 10)
    everything = await docket.snapshot()
    assert (everything.total_tasks, len(everything.future), everything.omitted) == (3 * MANY, 3 * MANY, 0)
    assert [each.key for each in few.future] == [each.key for each in everything.future[:10]]
    with pytest.raises(ValueError, match="expected limit to be at least 0, got -1"):
        await docket.snapshot(limit=-1)
    await docket.clear()


async def test_what_runs_is_in_a_limited_snapshot_however_much_waits_before_it(docket: Docket):
    began, go_on = asyncio.Event(), asyncio.Event()

    async def runs() -> None:
        began.set()
        await go_on.wait()

    await docket.add(runs, key="runs")()
    await docket.add_many(docket.call(nothing, soon(hours=1), f"parked{n}")(n) for n in range(30))
    async with Worker(docket, concurrency=1) as worker:
        running = asyncio.create_task(worker.run_forever())
        await asyncio.wait_for(began.wait(), 5)
        taken = await docket.snapshot(limit=3)
        go_on.set()
        await docket.clear()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [each.key for each in taken.running] == ["runs"]
    assert (taken.total_tasks, len(taken.future), taken.omitted) == (31, 3, 27)


def test_the_names_of_all_tasks_are_told_once():
    """A worker that knows ten thousand must not send them with each of its calls."""
    from docket.store.keys import Keys

    first = scripts.enlist(
        Keys("d"), "w", lease_ms=1, host="", process="", concurrency=1, tasks=["a"], all_tasks=["a", "b"]
    )
    later = scripts.enlist(
        Keys("d"), "w", lease_ms=1, host="", process="", concurrency=1, tasks=["b"], all_tasks=()
    )
    assert json.dumps(["a", "b"]) in first.arguments and "" in later.arguments
