"""Redis did what it was asked and the reply was lost on the way: nothing happens twice, nothing is forgotten."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from chaos.proxy import LossyProxy
from docket import Disposition, Docket, Retry, Worker
from docket.message import CLAIM_WIDTH
from docket.store import scripts
from docket.store.keys import Keys
from docket.store.ledgers import AnyLedger, open_ledger
from docket.store.scripts import Script
from docket.timetravel import advance
from tests.redis_server import RedisServer
from tests.runtime.support import Gate, finish, running, soon, until, work_off

T = TypeVar("T")


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


async def test_what_a_blocked_read_has_brought_runs_once_if_nobody_hears_of_it(
    docket: Docket, behind: Docket, proxy: LossyProxy
):
    """Claimed by the script behind the read, and both replies lost."""
    ran: Counter[int] = Counter()

    async def note(number: int) -> None:
        ran[number] += 1

    docket.register(note)
    proxy.lose(scripts.ACCEPT, 2)
    async with running(behind):
        for number in range(4):
            await docket.add(note)(number)
            await until(lambda number=number: ran[number] == 1)
    assert proxy.lost == 2 and ran == Counter(range(4))


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


# --- the scripts that operators, stewards and watchers use -----------------------------------------------------------


@dataclass
class Scene:
    """`docket` reaches Redis directly, `behind` by way of the proxy; so does `ledger`, as a steward does."""

    docket: Docket
    behind: Docket
    proxy: LossyProxy
    ledger: AnyLedger

    async def with_lost(self, script: Script, request: Awaitable[T]) -> T:
        self.proxy.lose(script)
        found = await request
        assert self.proxy.lost == 1 and not self.proxy.armed
        return found

    async def held(self, *keys: str) -> str:
        """These executions are claimed by a worker that will never say anything again. Returns its id."""
        for key in keys:
            await self.docket.add("trace", key=key)(key)
        asked = scripts.enlist(
            self.docket.keys, "dumb/1", lease_ms=60_000, host="h", process="1", concurrency=9, tasks=["trace"]
        )
        await self.docket.store.ask(asked)
        claim = scripts.exchange(
            self.docket.keys,
            "dumb/1",
            free=9,
            lanes="d",
            promote_most=0,
            census=False,
            settlements=(),
            deliveries=(),
        )
        await self.docket.store.ask(claim)
        return "dumb/1"

    async def dead_letters(self, number: int) -> None:
        for each in range(number):
            await self.docket.add("nobody knows it", key=f"dead-{each}")()
        async with self.docket.redis() as redis:
            for each in range(number):
                await redis.hset(
                    self.docket.keys.runs(f"dead-{each}"), mapping={"state": "failed", "dead": "1"}
                )
                await redis.zadd(self.docket.keys.dead, {f"dead-{each}": 1})
            await redis.delete(self.docket.keys.stream)

    async def states(self, *keys: str) -> list[str]:
        found = [await self.docket.get_execution(key) for key in keys]
        return [each.state if each is not None else "gone" for each in found]

    async def tidy(self) -> None:
        await self.ledger.hand_over("dumb/1", "", started=[], max_crashes=9)
        await self.docket.purge_dead()
        await self.docket.clear()


@pytest.fixture
async def scene(docket: Docket, behind: Docket, proxy: LossyProxy) -> AsyncIterator[Scene]:
    async with open_ledger(behind.settings) as ledger:
        scene = Scene(docket, behind, proxy, ledger)
        yield scene
        await scene.tidy()


async def recovers_once(scene: Scene) -> None:
    held = await scene.held("a", "b")
    call = scripts.recover(scene.docket.keys, held, [])
    lapsed, rows = await scene.with_lost(scripts.RECOVER, scene.behind.store.ask(call))
    assert not lapsed and {row[1] for row in (rows[:CLAIM_WIDTH], rows[CLAIM_WIDTH:])} == {b"a", b"b"}


async def tells_of_stops(scene: Scene) -> None:
    await scene.held("a")
    execution = await scene.docket.get_execution("a")
    assert execution is not None
    async with scene.docket.redis() as redis:
        found: Any = await redis.hget(scene.docket.keys.runs("a"), "entry")
    entry = found.decode()
    await scene.docket.cancel("a")
    call = scripts.stops(scene.docket.keys, [(entry, "a")])
    assert await scene.with_lost(scripts.STOPS, scene.behind.store.ask(call)) == [entry.encode()]


async def clears_and_counts(scene: Scene) -> None:
    for number in range(5):
        await scene.docket.add("trace", key=f"k{number}")("never")
    assert await scene.with_lost(scripts.CLEAR, scene.behind.clear()) == 5
    assert (await scene.docket.snapshot()).future == []


async def renews(scene: Scene) -> None:
    held = await scene.held("a")
    lease = timedelta(seconds=30)
    renewed = scene.ledger.renew([held, "nobody/1"], lease)
    assert await scene.with_lost(scripts.RENEW, renewed) == [True, False]


async def hands_over_once(scene: Scene) -> None:
    held = await scene.held("a", "b")
    await scene.with_lost(scripts.HAND_OVER, scene.ledger.hand_over(held, "died", started=[], max_crashes=3))
    assert await scene.states("a", "b") == ["queued", "queued"]
    async with scene.docket.redis() as redis:
        assert await redis.xlen(scene.docket.keys.redelivered) == 2
        assert await redis.hget(scene.docket.keys.runs("a"), "crashes") in (None, b"0")


async def counts_one_crash(scene: Scene) -> None:
    held = await scene.held("a")
    await scene.with_lost(
        scripts.HAND_OVER, scene.ledger.hand_over(held, "died", started=None, max_crashes=3)
    )
    async with scene.docket.redis() as redis:
        assert await redis.hget(scene.docket.keys.runs("a"), "crashes") == b"1"
        assert await redis.xlen(scene.docket.keys.suspects) == 1


async def evacuates_once(scene: Scene) -> None:
    held = await scene.held("a", "b")
    await scene.with_lost(scripts.EVACUATE, scene.ledger.evacuate(held, []))
    assert await scene.states("a", "b") == ["queued", "queued"]
    async with scene.docket.redis() as redis:
        assert await redis.xlen(scene.docket.keys.redelivered) == 2
        assert await redis.zscore(scene.docket.keys.workers, held) is not None


async def sweeps_once(scene: Scene) -> None:
    held = await scene.held("a")
    async with scene.docket.redis() as redis:
        await redis.zadd(scene.docket.keys.workers, {held: 1})
        await scene.with_lost(scripts.SWEEP, scene.ledger.sweep(3))
        assert await redis.zscore(scene.docket.keys.workers, held) is None
        assert await redis.hget(scene.docket.keys.runs("a"), "crashes") == b"1"
        assert await redis.xlen(scene.docket.keys.suspects) == 1


async def retries_a_dead_letter_once(scene: Scene) -> None:
    await scene.dead_letters(1)
    assert await scene.with_lost(scripts.RETRY_DEAD, scene.behind.retry_dead("dead-0")) is True
    assert await scene.states("dead-0") == ["queued"]
    async with scene.docket.redis() as redis:
        assert await redis.xlen(scene.docket.keys.stream) == 1


async def purges_and_counts(scene: Scene) -> None:
    await scene.dead_letters(3)
    assert await scene.with_lost(scripts.PURGE_DEAD, scene.behind.purge_dead()) == 3
    assert await scene.docket.dead_letters() == []


async def strikes_once(scene: Scene) -> None:
    await scene.with_lost(scripts.STRIKE, scene.behind.strike("trace"))
    async with scene.docket.redis() as redis:
        assert await redis.xlen(scene.docket.keys.strikes) == 1
    assert await scene.docket.restore("trace") is True


async def releases_what_was_held_once(scene: Scene) -> None:
    await scene.held("a", "b")
    await scene.docket.strike("trace", hold=True)
    async with scene.docket.redis() as redis:
        (rule,) = (each.id for each in scene.docket.strike_list)
        await redis.zadd(scene.docket.keys.held(rule), {"a": 1, "b": 2})
    await scene.with_lost(scripts.RELEASE, scene.behind.restore("trace"))
    async with scene.docket.redis() as redis:
        assert await redis.zrange(scene.docket.keys.queue, 0, -1) == [b"a", b"b"]
        assert await redis.exists(scene.docket.keys.held(rule), scene.docket.keys.lifted) == 0
        await redis.delete(scene.docket.keys.queue)


async def reads_the_strikes(scene: Scene) -> None:
    await scene.docket.strike("trace")
    execution = await scene.with_lost(scripts.STRIKES, scene.behind.add("trace")("never"))
    assert execution.disposition is Disposition.STRUCK
    assert await scene.docket.restore("trace") is True


async def sets_a_maximum_and_tells_what_it_was(scene: Scene) -> None:
    assert await scene.docket.set_limit("limit", 5) is None
    assert await scene.with_lost(scripts.MAXIMUM, scene.behind.set_limit("limit", 2)) == 5
    assert await scene.docket.reset_limit("limit") == 2


async def resets_a_maximum_and_tells_what_it_was(scene: Scene) -> None:
    await scene.docket.set_limit("limit", 5)
    assert await scene.with_lost(scripts.MAXIMUM, scene.behind.reset_limit("limit")) == 5
    assert await scene.docket.reset_limit("limit") is None


async def looks_at_the_lines(scene: Scene) -> None:
    async with scene.docket.redis() as redis:
        await redis.sadd(scene.docket.keys.limits, "limit")
        await scene.with_lost(scripts.LOOK, scene.behind.set_limit("family", 2))
        await redis.delete(scene.docket.keys.limits)
    await scene.docket.reset_limit("family")


async def counts_progress_once(scene: Scene) -> None:
    await scene.held("a")
    execution = await scene.behind.get_execution("a")
    assert execution is not None
    await scene.with_lost(scripts.PROGRESS, execution.progress.increment(3))
    await execution.progress.sync()
    assert execution.progress.current == 3


async def shows_an_observer_all(scene: Scene) -> None:
    execution = await scene.docket.add("trace", key="a", when=soon(seconds=60))("never")
    watched = await scene.behind.get_execution(execution.key)
    assert watched is not None
    scene.proxy.lose(scripts.OBSERVE)
    async with asyncio.timeout(5):
        async for event in watched.subscribe():
            assert event["state"] == "scheduled"  # type: ignore[typeddict-item]
            break
    assert scene.proxy.lost == 1


async def advances_once(scene: Scene) -> None:
    execution = await scene.docket.add("trace", key="a", when=soon(seconds=60))("never")
    before = execution.when
    assert before is not None
    assert await scene.with_lost(scripts.ADVANCE, advance(scene.behind, timedelta(seconds=10))) == 1
    await execution.sync()
    assert before - execution.when == timedelta(seconds=10)


async def tells_the_figures(scene: Scene) -> None:
    await scene.docket.add("trace", key="a")("never")
    figures = await scene.with_lost(scripts.FIGURES, scene.ledger.figures())
    assert (figures.due, figures.scheduled) == (1, 0)


async def splits_once(scene: Scene) -> None:
    whole = Keys(f"{scene.docket.name}-split")
    call = scripts.split(whole, 3)
    assert int(await scene.with_lost(scripts.SPLIT, scene.behind.store.ask(call))) == 3
    async with scene.docket.redis() as redis:
        assert await redis.xlen(whole.strikes) == 1
        await redis.delete(whole.strikes, whole.partitions)


ASKED = {
    recovers_once: scripts.RECOVER,
    tells_of_stops: scripts.STOPS,
    clears_and_counts: scripts.CLEAR,
    renews: scripts.RENEW,
    hands_over_once: scripts.HAND_OVER,
    counts_one_crash: scripts.HAND_OVER,
    evacuates_once: scripts.EVACUATE,
    sweeps_once: scripts.SWEEP,
    retries_a_dead_letter_once: scripts.RETRY_DEAD,
    purges_and_counts: scripts.PURGE_DEAD,
    strikes_once: scripts.STRIKE,
    reads_the_strikes: scripts.STRIKES,
    releases_what_was_held_once: scripts.RELEASE,
    looks_at_the_lines: scripts.LOOK,
    sets_a_maximum_and_tells_what_it_was: scripts.MAXIMUM,
    resets_a_maximum_and_tells_what_it_was: scripts.MAXIMUM,
    counts_progress_once: scripts.PROGRESS,
    shows_an_observer_all: scripts.OBSERVE,
    advances_once: scripts.ADVANCE,
    tells_the_figures: scripts.FIGURES,
    splits_once: scripts.SPLIT,
}
ABOVE = (scripts.SCHEDULE, scripts.EXCHANGE, scripts.ACCEPT, scripts.CANCEL, scripts.ENLIST)
"""What the first tests of this file are about."""


@pytest.mark.parametrize("what", ASKED, ids=lambda what: what.__name__)
async def test_a_request_whose_reply_is_lost(what: Callable[[Scene], Awaitable[None]], scene: Scene):
    """With all that it needs to have been done before its script is told to lose its reply."""
    await what(scene)


def test_no_script_is_left_out():
    assert {script.name for script in (*ASKED.values(), *ABOVE)} == {script.name for script in scripts.ALL}
