"""A picture of a docket while others work on it: what is there all the time is in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from docket import ConcurrencyLimit, Docket, clock, snapshot
from docket.docket import DocketSnapshot
from docket.execution import Execution
from docket.message import Claimed, parse_claims
from docket.store import scripts
from docket.store.requests import Operation
from tests.runtime.support import soon, work_off

T = TypeVar("T")
Asked = Sequence[tuple[Any, ...]]
LATER_US = 3_600_000_000
WORKER = "somebody/1"


async def one_at_a_time(customer: int, limit: ConcurrencyLimit = ConcurrencyLimit("customer")) -> None: ...


class Hands:
    """A worker's, without the worker: it does something when it is told to, and nothing else."""

    def __init__(self, docket: Docket) -> None:
        self.docket = docket
        self.rule = ""

    async def enlist(self) -> None:
        call = scripts.enlist(
            self.docket.keys, WORKER, lease_ms=60_000, host="", process="", concurrency=9, tasks=["trace"]
        )
        await self.docket.store.ask(call)

    async def leave(self) -> None:
        call = scripts.hand_over(self.docket.keys, WORKER, "it left", max_crashes=9, begun=[])
        await self.docket.store.ask(call)

    async def exchange(self, free: int = 0, *settlements: tuple[str, str, str, Any, Any]) -> list[Claimed]:
        call = scripts.exchange(
            self.docket.keys,
            WORKER,
            free=free,
            lanes="rd",
            promote_most=100,
            census=False,
            settlements=settlements,
            deliveries=(),
        )
        return parse_claims((await self.docket.store.ask(call))[6])

    async def settle(self, key: str, outcome: str, a: Any = "") -> None:
        async with self.docket.redis() as redis:
            entry: Any = await redis.hget(self.docket.keys.runs(key), "entry")
        assert entry is not None
        await self.exchange(0, (entry.decode(), key, outcome, a, ""))

    async def promote(self, key: str) -> None:
        async with self.docket.redis() as redis:
            await redis.zadd(self.docket.keys.queue, {key: 1})
        await self.exchange()

    async def hold(self, key: str) -> None:
        await self.docket.strike("trace", hold=True)
        (rule,) = self.docket.strike_list
        await self.settle(key, "held", rule.id)

    # --- where an execution is, and where it goes meanwhile --------------------------------------------------------

    async def parked(self) -> None:
        await self.docket.add("trace", soon(hours=1), "k")("x")

    async def running(self) -> None:
        await self.docket.add("trace", key="k")("x")
        await self.exchange(1)

    async def dead(self) -> None:
        await self.running()
        await self.settle("k", "dead", "a cause")

    async def held(self) -> None:
        await self.running()
        await self.hold("k")

    async def in_a_line(self) -> None:
        await self.docket.add(one_at_a_time, key="before")(1)
        await self.exchange(1)
        await self.docket.add(one_at_a_time, key="k")(1)

    async def is_promoted(self) -> None:
        await self.promote("k")

    async def is_tried_again_later(self) -> None:
        await self.settle("k", "retry", LATER_US)

    async def is_handed_back(self) -> None:
        await self.settle("k", "interrupted")

    async def is_held(self) -> None:
        await self.hold("k")

    async def is_set_aside(self) -> None:
        await self.settle("k", "dead", "a cause")

    async def is_retried(self) -> None:
        assert await self.docket.retry_dead("k")

    async def is_restored(self) -> None:
        await self.docket.restore("trace")

    async def is_restored_and_promoted(self) -> None:
        await self.docket.restore("trace")
        await self.exchange()

    async def is_admitted(self) -> None:
        await self.settle("before", "completed")

    async def is_replaced_by_an_earlier_one(self) -> None:
        await self.docket.replace("trace", soon(minutes=1), "k")("y")


@pytest.fixture
async def hands(docket: Docket) -> AsyncIterator[Hands]:
    hands = Hands(docket)
    await hands.enlist()
    yield hands
    await hands.leave()
    await docket.restore("trace")
    await docket.clear()
    await docket.purge_dead()


async def looked(
    docket: Docket, operation: Operation[T], meanwhile: Callable[[int, Asked], Awaitable[object]]
) -> T:
    """What the operation comes to, if `meanwhile` happens behind each of its requests, given its plain commands."""
    reply: Any = None
    number = 0
    while True:
        try:
            request: Any = operation.send(reply)
        except StopIteration as stop:
            return stop.value
        reply = await docket.store.ask(request)
        number += 1
        await meanwhile(number, getattr(request, "commands", ()))


def shown(taken: DocketSnapshot[Execution]) -> list[str]:
    return [each.key for each in (*taken.future, *taken.running, *taken.dead)]


MOVES = [
    (Hands.parked, Hands.is_promoted),
    (Hands.parked, Hands.is_replaced_by_an_earlier_one),
    (Hands.running, Hands.is_tried_again_later),
    (Hands.running, Hands.is_handed_back),
    (Hands.running, Hands.is_held),
    (Hands.running, Hands.is_set_aside),
    (Hands.dead, Hands.is_retried),
    (Hands.held, Hands.is_restored),
    (Hands.held, Hands.is_restored_and_promoted),
    (Hands.in_a_line, Hands.is_admitted),
]


@pytest.mark.parametrize("limit", [None, 10])
@pytest.mark.parametrize(
    ("begins", "moves"), MOVES, ids=lambda each: getattr(each, "__name__", "").strip("_")
)
async def test_what_moves_meanwhile_is_in_the_picture_once_whenever_it_does(
    docket: Docket,
    hands: Hands,
    begins: Callable[[Hands], Awaitable[None]],
    moves: Callable[[Hands], Awaitable[None]],
    limit: int | None,
):
    at, last = 0, 1
    while at < last:
        at += 1
        await begins(hands)
        requests = 0

        async def meanwhile(number: int, _: Asked) -> None:
            nonlocal requests
            requests = number
            if number == at:  # noqa: B023
                await moves(hands)

        taken = await looked(docket, docket.core.snapshot(limit), meanwhile)
        assert shown(taken).count("k") == 1, f"it moved behind request {at} of {requests}"
        last = requests
        if moves is Hands.is_admitted:
            await hands.exchange(1)
        await hands.leave()
        await docket.clear()
        await docket.purge_dead()
        await docket.restore("trace")
        await hands.enlist()
    assert at > 5


async def test_what_moves_twice_meanwhile_is_in_the_picture_as_well(docket: Docket, hands: Hands):
    """As a task does that is tried again later, over and over."""
    first, last = 0, 2
    while first + 1 < last:
        first += 1
        second = first
        while second < last:
            second += 1
            await hands.parked()
            requests = 0

            async def meanwhile(number: int, _: Asked) -> None:
                nonlocal requests
                requests = number
                if number == first:  # noqa: B023
                    await hands.promote("k")
                    await hands.exchange(1)
                elif number == second:  # noqa: B023
                    await hands.settle("k", "retry", LATER_US)

            taken = await looked(docket, docket.core.snapshot(), meanwhile)
            assert shown(taken) == ["k"], f"it moved behind requests {first} and {second} of {requests}"
            last = requests
            await hands.leave()
            await docket.clear()
            await hands.enlist()


# --- pages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_one_moment", [True, False])
@pytest.mark.parametrize(
    "gone_by", [[1, 2, 3, 4, 5], [300], [100, 200, 300, 400], [0, 0, 900], [400, 900]], ids=str
)
async def test_what_stays_is_shown_whatever_leaves_before_it_meanwhile(
    docket: Docket, gone_by: list[int], at_one_moment: bool
):
    """`gone_by`: how many have left, from the front, when the first page has been read, the second, …"""
    many = 2600
    when, apart = soon(hours=1), timedelta(seconds=0 if at_one_moment else 1)
    await docket.add_many(docket.call("trace", when + n * apart, f"k{n:05}")("x") for n in range(many))
    seen: list[str] = []
    gone = pages = requests = 0

    async def meanwhile(number: int, asked: Asked) -> None:
        nonlocal gone, pages, requests
        requests = number
        # When the last of a page has been read, and not before: what was only named could not be read any more.
        if asked and asked[0][0] == "HMGET" and gone_by[pages:]:
            leave = [f"k{n:05}" for n in range(gone, gone_by[pages])]
            gone, pages = gone_by[pages], pages + 1
            async with docket.redis() as redis:
                for key in leave:
                    await redis.zrem(docket.keys.queue, key)
                    await redis.delete(docket.keys.runs(key))

    operation = docket.core.snapshot(see=lambda execution: seen.append(execution.key))
    taken = await looked(docket, operation, meanwhile)
    assert len(taken.future) == many and sorted(seen) == [f"k{n:05}" for n in range(many)]
    assert requests < 50
    await docket.clear()


async def test_of_a_docket_that_is_emptied_meanwhile_the_end_is_found(docket: Docket):
    await docket.add_many(docket.call("trace", soon(hours=1))("x") for _ in range(1200))

    async def meanwhile(number: int, asked: Asked) -> None:
        if asked and asked[0][1] == docket.keys.queue and not emptied:
            emptied.append(number)
            await docket.clear()

    emptied: list[int] = []
    taken = await looked(docket, docket.core.snapshot(), meanwhile)
    assert len(taken.future) <= snapshot.PAGE and taken.total_tasks == len(taken.future)


async def test_dead_letters_that_stay_are_listed_whichever_are_purged_meanwhile(docket: Docket):
    await docket.add_many(docket.call("nobody knows it", key=f"k{n:05}")("x") for n in range(1200))
    await work_off(docket)
    oldest_first = [each.key for each in await docket.dead_letters()]
    assert len(oldest_first) == 1200
    for gone, operation in enumerate((docket.core.dead_keys, docket.core.dead_letters)):
        purged: list[str] = []
        left = oldest_first[gone * 300 :]

        async def meanwhile(_: int, asked: Asked) -> None:
            if asked[0][0] == "HMGET" or purged:  # noqa: B023
                return
            purged.extend(left[:300])  # noqa: B023
            await docket.purge_dead(purged)  # noqa: B023

        found: list[Any] = await looked(docket, operation(), meanwhile)
        keys = [each if isinstance(each, str) else each.key for each in found]
        assert [key for key in keys if key not in purged] == left[300:]
    assert await docket.purge_dead() == 600


async def test_a_limited_snapshot_of_many_reads_nothing_once_more(docket: Docket):
    """It does not show everything anyway."""
    await docket.add_many(docket.call("trace", soon(hours=1))("x") for _ in range(1200))
    pages: list[Any] = []

    async def meanwhile(_: int, asked: Asked) -> None:
        pages.extend(each for each in asked if each[:2] == ("ZRANGE", docket.keys.queue))

    taken = await looked(docket, docket.core.snapshot(10), meanwhile)
    assert (len(taken.future), taken.omitted, len(pages)) == (10, 1190, 1)
    await docket.clear()


# --- workers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [timedelta(minutes=1), timedelta(minutes=-1)])
async def test_who_is_alive_is_told_by_the_clock_of_redis(
    docket: Docket, hands: Hands, monkeypatch: pytest.MonkeyPatch, ahead: timedelta
):
    now = clock.now
    monkeypatch.setattr(clock, "now", lambda: now() + ahead)
    assert [each.name for each in await docket.workers()] == ["somebody"]
    assert [each.name for each in (await docket.snapshot()).workers] == ["somebody"]

    heard_ms = clock.to_us(now()) // 1000 - 30_000
    async with docket.redis() as redis:
        await redis.zadd(docket.keys.workers, {WORKER: heard_ms + 60_000})
    assert await docket.workers() == []
    with_lease = await docket.store.perform(snapshot.workers(docket.keys))
    assert [clock.to_us(each.last_seen) // 1000 for each in with_lease] == [heard_ms]
