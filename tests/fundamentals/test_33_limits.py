"""How many run at once, how often one begins, and what becomes of those that are too many."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Any

import pytest

from docket import (
    LIMIT_BY,
    ConcurrencyLimit,
    ConcurrencyStrategy,
    ConflictResolution,
    Cooldown,
    Debounce,
    Docket,
    Execution,
    ExecutionCancelled,
    ExecutionState,
    Perpetual,
    RateLimit,
    Retry,
    TaskKey,
    Worker,
)

Work = Callable[[], Awaitable[None]]
MOMENT = timedelta(milliseconds=100)


async def let_in(docket: Docket, key: str) -> float:
    """When this run was let in, in seconds of Redis's clock: its body begins later, and not always as much later."""
    async with docket.redis() as redis:
        started_us = await redis.hget(docket.keys.runs(key), "started_us")
    assert started_us is not None
    return int(started_us) / 1e6


class Room:
    """Counts who is in it at the same time, by the name they give."""

    def __init__(self) -> None:
        self.inside: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.visitors: list[Any] = []

    def enter(self, name: str, visitor: Any) -> None:
        self.visitors.append(visitor)
        self.inside[name] = self.inside.get(name, 0) + 1
        self.most[name] = max(self.most.get(name, 0), self.inside[name])

    def leave(self, name: str) -> None:
        self.inside[name] -= 1

    async def visit(self, name: str, visitor: Any = None) -> None:
        self.enter(name, visitor)
        await asyncio.sleep(0.01)
        self.leave(name)


async def ended(docket: Docket, *executions: Execution) -> list[ExecutionState]:
    """In which state each of them is, when it is over."""
    for execution in executions:
        async with asyncio.timeout(5):
            while execution.state not in (
                ExecutionState.COMPLETED,
                ExecutionState.FAILED,
                ExecutionState.CANCELLED,
            ):
                await asyncio.sleep(0.005)
                await execution.sync()
    return [execution.state for execution in executions]


async def in_the_background(docket: Docket, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A worker runs while `body` looks on."""
    async with Worker(docket) as worker:
        running = asyncio.create_task(worker.run_forever())
        try:
            await asyncio.wait_for(body(), 10)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


# --- at most so many at once --------------------------------------------------------------------------------------


async def test_one_at_a_time_for_each_value_of_an_argument(docket: Docket, work: Work) -> None:
    """Whoever finds no permit waits in line, and occupies nobody meanwhile."""
    room = Room()

    async def bill(customer_id: int, limit: ConcurrencyLimit = ConcurrencyLimit("customer_id")) -> None:
        await room.visit(f"customer {customer_id}")

    for customer_id in (1, 1, 1, 2, 2, 2):
        await docket.add(bill)(customer_id)
    await work()
    assert len(room.visitors) == 6
    assert room.most == {"customer 1": 1, "customer 2": 1}


async def test_plain_functions_are_limited_alike(docket: Docket, work: Work) -> None:
    room = Room()

    def resize(disk: str, limit: ConcurrencyLimit = ConcurrencyLimit("disk", max_concurrent=2)) -> None:
        room.enter(disk, None)
        time.sleep(0.01)
        room.leave(disk)

    for _ in range(8):
        await docket.add(resize)("ssd")
    await work()
    assert len(room.visitors) == 8 and room.most == {"ssd": 2}


async def test_the_value_of_a_default_counts(docket: Docket, work: Work) -> None:
    """Left out or spelt out, by position or by name: it is the same argument."""
    room = Room()

    async def export(region: str = "eu", limit: ConcurrencyLimit = ConcurrencyLimit("region")) -> None:
        await room.visit(region)

    await docket.add(export)()
    await docket.add(export)("eu")
    await docket.add(export)(region="eu")
    await work()
    assert len(room.visitors) == 3 and room.most == {"eu": 1}


async def test_without_an_argument_it_counts_all_runs_of_the_task(docket: Docket, work: Work) -> None:
    """`ConcurrencyLimit(3)` is short for `ConcurrencyLimit(max_concurrent=3)`."""
    room = Room()

    async def crawl(url: str, limit: ConcurrencyLimit = ConcurrencyLimit(3)) -> None:
        await room.visit("crawl", url)

    await docket.add_many([docket.call(crawl)(f"page {number}") for number in range(9)])
    await work()
    assert len(room.visitors) == 9 and room.most == {"crawl": 3}


async def test_in_an_annotation_it_counts_by_that_argument(docket: Docket, work: Work) -> None:
    room = Room()

    async def crawl(host: Annotated[str, ConcurrencyLimit(2)], page: int) -> None:
        await room.visit(host, page)

    for page in range(6):
        await docket.add(crawl)("a.example", page)
        await docket.add(crawl)("b.example", page)
    await work()
    assert len(room.visitors) == 12 and room.most == {"a.example": 2, "b.example": 2}


async def test_several_arguments_make_a_group_together(docket: Docket, work: Work) -> None:
    room = Room()

    async def sync(
        region: str, tier: str, limit: ConcurrencyLimit = ConcurrencyLimit(["region", "tier"])
    ) -> None:
        await room.visit(f"{region}-{tier}")

    for _ in range(3):
        for region, tier in (("eu", "gold"), ("eu", "free"), ("us", "gold")):
            await docket.add(sync)(region, tier)
    await work()
    assert room.most == {"eu-gold": 1, "eu-free": 1, "us-gold": 1}
    assert len(room.visitors) == 9


@pytest.mark.parametrize(
    "by",
    [
        LIMIT_BY.fn_argument("region", "tier"),
        LIMIT_BY.fn(lambda arguments: f"{arguments['region']}/{arguments['tier']}"),
    ],
)
async def test_the_same_said_with_limit_by(docket: Docket, work: Work, by: ConcurrencyStrategy) -> None:
    """`fn_argument` names the arguments; `fn` takes them as a mapping and makes of them what it likes."""
    room = Room()

    async def sync(region: str, tier: str = "free", limit: ConcurrencyLimit = ConcurrencyLimit(by)) -> None:
        await room.visit(f"{region}-{tier}")

    for _ in range(3):
        await docket.add(sync)("eu", tier="gold")
        await docket.add(sync)("eu")
    await work()
    assert room.most == {"eu-gold": 1, "eu-free": 1} and len(room.visitors) == 6


async def test_by_the_name_of_the_task(docket: Docket, work: Work) -> None:
    room = Room()

    async def compute(data: str, limit: ConcurrencyLimit = ConcurrencyLimit(LIMIT_BY.fn_name)) -> None:
        await room.visit("compute")

    for data in "abc":
        await docket.add(compute)(data)
    await work()
    assert room.most == {"compute": 1} and len(room.visitors) == 3


async def test_different_tasks_share_a_limit_of_a_constant_name(docket: Docket, work: Work) -> None:
    """One statement for both, or two of the same name."""
    room = Room()
    shared = ConcurrencyLimit(LIMIT_BY.constant("billing"), max_concurrent=2)

    async def charge(limit: ConcurrencyLimit = shared) -> None:
        await room.visit("billing", "charge")

    def refund(limit: ConcurrencyLimit = ConcurrencyLimit(LIMIT_BY.constant("billing"), 2)) -> None:
        room.enter("billing", "refund")
        time.sleep(0.01)
        room.leave("billing")

    for _ in range(4):
        await docket.add(charge)()
        await docket.add(refund)()
    await work()
    assert sorted(room.visitors) == ["charge"] * 4 + ["refund"] * 4
    assert room.most == {"billing": 2}


async def test_a_strategy_of_your_own(docket: Docket, work: Work) -> None:
    """It is given the execution: its key, its arguments by name, whatever you know beside them."""
    room = Room()
    tiers = {"k1": "gold", "k2": "gold", "k3": "free"}

    class ByTier(ConcurrencyStrategy):
        def get_key(self, execution: Execution) -> str:
            return f"tier:{tiers[execution.get_argument('api_key')]}"

    async def call_api(api_key: str, limit: ConcurrencyLimit = ConcurrencyLimit(ByTier())) -> None:
        await room.visit(tiers[api_key], api_key)

    for api_key in ("k1", "k2", "k3") * 2:
        await docket.add(call_api)(api_key)
    await work()
    assert room.most == {"gold": 1, "free": 1} and len(room.visitors) == 6


async def test_a_scope_keeps_limits_apart_that_would_share_a_name(docket: Docket, work: Work) -> None:
    """Without it both would count `tenant:7`."""
    both = asyncio.Barrier(2)

    async def read(tenant: int, limit: ConcurrencyLimit = ConcurrencyLimit("tenant", scope="reads")) -> None:
        await both.wait()

    async def write(
        tenant: int, limit: ConcurrencyLimit = ConcurrencyLimit("tenant", scope="writes")
    ) -> None:
        await both.wait()

    await docket.add(read)(7)
    await docket.add(write)(7)
    await work()  # they have met, or this would not have ended


async def test_all_limits_of_a_task_admit_it_or_none_does(docket: Docket, work: Work) -> None:
    """Nobody holds one permit while it waits for another, in whatever order they are stated: there is no deadlock."""
    room = Room()

    async def move(
        source: str,
        target: str,
        first: ConcurrencyLimit = ConcurrencyLimit("source"),
        second: ConcurrencyLimit = ConcurrencyLimit("target"),
        all_of_them: ConcurrencyLimit = ConcurrencyLimit(max_concurrent=2),
    ) -> None:
        room.enter(f"from {source}", None)
        room.enter(f"to {target}", None)
        await room.visit("move")
        room.leave(f"from {source}")
        room.leave(f"to {target}")

    for _ in range(3):
        for source, target in ("ab", "ba", "ac", "ca", "bc", "cb"):
            await docket.add(move)(source, target)
    await work()
    assert room.most == {"move": 2} | {f"{way} {disk}": 1 for way in ("from", "to") for disk in "abc"}
    assert len(room.visitors) == 3 * 18


@pytest.mark.skipif(
    os.environ.get("DOCKET_TEST_TOPOLOGY") == "cluster", reason="there the docket's name stands in braces"
)
async def test_the_usage_is_a_set_in_redis(docket: Docket) -> None:
    """Named after the docket, the argument and its value; who is in it holds a permit."""
    seen: list[int] = []

    async def process(customer_id: int, limit: ConcurrencyLimit = ConcurrencyLimit("customer_id", 2)) -> None:
        async with docket.redis() as redis:
            seen.append(await redis.scard(f"{docket.name}:concurrency:customer_id:{customer_id}"))
            assert limit.concurrency_key == f"{docket.name}:concurrency:customer_id:{customer_id}"

    execution = await docket.add(process)(1001)

    async def look() -> None:
        await execution.get_result()
        async with docket.redis() as redis:
            assert await redis.scard(f"{docket.name}:concurrency:customer_id:1001") == 0

    await in_the_background(docket, look)
    assert seen == [1]


async def test_those_who_wait_begin_in_the_order_of_arrival(docket: Docket, work: Work) -> None:
    room = Room()

    async def send(number: int, limit: ConcurrencyLimit = ConcurrencyLimit()) -> None:
        await room.visit("send", number)

    for number in range(10):
        await docket.add(send)(number)
    await work()
    assert room.visitors == list(range(10))


async def test_a_retry_keeps_its_place(docket: Docket, work: Work) -> None:
    """It goes before those that came later, and not to the end of the line."""
    calls: list[tuple[str, int]] = []

    async def upload(
        name: str, limit: ConcurrencyLimit = ConcurrencyLimit(), retry: Retry = Retry(attempts=2)
    ) -> None:
        calls.append((name, retry.attempt))
        if name == "first" and retry.attempt == 1:
            raise ConnectionError

    for name in ("first", "second", "third"):
        await docket.add(upload)(name)
    await work()
    assert calls == [("first", 1), ("first", 2), ("second", 1), ("third", 1)]


# --- when there is no permit --------------------------------------------------------------------------------------


class Held:
    """A task that occupies its limit until it is let go."""

    def __init__(self, on_conflict: ConflictResolution) -> None:
        self.began: list[str] = []
        self.cancelled: list[str] = []
        self.free = asyncio.Event()
        self.busy = asyncio.Event()
        self.limit = ConcurrencyLimit("printer", on_conflict=on_conflict)

    def as_a_task(self) -> Callable[..., Coroutine[Any, Any, None]]:
        async def print_out(name: str, printer: str = "p", limit: ConcurrencyLimit = self.limit) -> None:
            self.began.append(name)
            self.busy.set()
            try:
                await self.free.wait()
            except asyncio.CancelledError:
                self.cancelled.append(name)
                raise

        return print_out


async def two_for_one_permit(
    docket: Docket, held: Held, before_it_is_free: Callable[[Execution, Execution], Awaitable[None]]
) -> list[ExecutionState]:
    """The second is added while the first runs."""
    states: list[ExecutionState] = []
    print_out = held.as_a_task()

    async def body() -> None:
        first = await docket.add(print_out, key="first")("first")
        await held.busy.wait()
        second = await docket.add(print_out, key="second")("second")
        await before_it_is_free(first, second)
        held.free.set()
        states.extend(await ended(docket, first, second))

    await in_the_background(docket, body)
    return states


async def test_queue_lets_it_wait(docket: Docket) -> None:
    """The default. `why` tells what it waits for."""
    held = Held(ConflictResolution.QUEUE)

    async def look(_: Execution, second: Execution) -> None:
        await second.sync()
        assert second.state is ExecutionState.QUEUED
        assert "waiting for the concurrency limit printer:p" in str(await docket.why("second"))
        assert held.began == ["first"]

    assert await two_for_one_permit(docket, held, look) == [ExecutionState.COMPLETED] * 2
    assert held.began == ["first", "second"]


async def test_cancel_ends_it(docket: Docket) -> None:
    """The reason is kept; a result of it raises ExecutionCancelled, with that reason."""
    held = Held(ConflictResolution.CANCEL)

    async def look(_: Execution, second: Execution) -> None:
        await ended(docket, second)
        assert "printer:p" in (second.error or "")
        with pytest.raises(ExecutionCancelled, match="printer:p"):
            await second.get_result()

    states = await two_for_one_permit(docket, held, look)
    assert states == [ExecutionState.COMPLETED, ExecutionState.CANCELLED]
    assert held.began == ["first"]


async def test_skip_leaves_it_out(docket: Docket) -> None:
    """Like CANCEL, but for perpetual tasks: only this run does not take place."""
    held = Held(ConflictResolution.SKIP)

    async def look(_: Execution, second: Execution) -> None:
        await ended(docket, second)

    states = await two_for_one_permit(docket, held, look)
    assert states == [ExecutionState.COMPLETED, ExecutionState.CANCELLED]
    assert held.began == ["first"]


async def test_replace_ends_the_oldest(docket: Docket) -> None:
    """The newcomer begins when that one has really ended: there are never two."""
    held = Held(ConflictResolution.REPLACE)

    async def look(first: Execution, _: Execution) -> None:
        await ended(docket, first)
        async with asyncio.timeout(5):
            while held.began != ["first", "second"]:
                await asyncio.sleep(0.005)

    states = await two_for_one_permit(docket, held, look)
    assert states == [ExecutionState.CANCELLED, ExecutionState.COMPLETED]
    assert held.cancelled == ["first"]


async def test_a_perpetual_task_goes_on_when_a_run_is_skipped(docket: Docket) -> None:
    """With CANCEL its chain ends there."""
    free, busy, runs = asyncio.Event(), asyncio.Event(), []

    async def occupy(limit: ConcurrencyLimit = ConcurrencyLimit(LIMIT_BY.constant("printer"))) -> None:
        busy.set()
        await free.wait()

    by_skipping = ConcurrencyLimit(LIMIT_BY.constant("printer"), on_conflict="skip")
    by_cancelling = ConcurrencyLimit(LIMIT_BY.constant("printer"), on_conflict="cancel")

    async def goes_on(
        limit: ConcurrencyLimit = by_skipping, perpetual: Perpetual = Perpetual(every=MOMENT / 5)
    ) -> None:
        runs.append("goes_on")
        perpetual.cancel()

    async def gives_up(
        limit: ConcurrencyLimit = by_cancelling, perpetual: Perpetual = Perpetual(every=MOMENT / 5)
    ) -> None:
        runs.append("gives_up")

    async def body() -> None:
        await docket.add(occupy)()
        await busy.wait()
        lasting = await docket.add(goes_on)()
        ending = await docket.add(gives_up)()
        assert await ended(docket, ending) == [ExecutionState.CANCELLED]
        async with asyncio.timeout(5):
            while lasting.state is not ExecutionState.SCHEDULED:  # for its next run
                await lasting.sync()
        assert runs == []
        free.set()
        assert await ended(docket, lasting) == [ExecutionState.COMPLETED]

    await in_the_background(docket, body)
    assert runs == ["goes_on"]


# --- seeing and changing them -------------------------------------------------------------------------------------


async def test_who_holds_and_who_waits_can_be_seen(docket: Docket) -> None:
    """`docket limits` shows the same."""
    free, busy = asyncio.Event(), asyncio.Event()

    async def bill(customer_id: int, limit: ConcurrencyLimit = ConcurrencyLimit("customer_id")) -> None:
        busy.set()
        await free.wait()

    async def body() -> None:
        first = await docket.add(bill, key="first")(1001)
        await busy.wait()
        waiting = [await docket.add(bill)(1001) for _ in range(2)]
        (limit,) = await docket.limits()
        assert (limit.name, limit.kind, limit.most) == ("customer_id:1001", "concurrency", 1)
        assert [holder.key for holder in limit.holders] == ["first"]
        assert limit.used == 1 and limit.waiting == 2
        assert {each.key for each in (await docket.snapshot()).future} == {each.key for each in waiting}
        free.set()
        await ended(docket, first, *waiting)
        assert await docket.limits() == []

    await in_the_background(docket, body)


async def test_a_limit_can_be_changed_while_everything_runs(docket: Docket) -> None:
    """For one value, or by the argument's name for all; until it is reset, whatever the code says."""
    room, free = Room(), asyncio.Event()

    async def bill(customer_id: int, limit: ConcurrencyLimit = ConcurrencyLimit("customer_id")) -> None:
        room.enter("all", customer_id)
        await free.wait()
        room.leave("all")

    async def so_many_are_in(count: int) -> None:
        async with asyncio.timeout(5):
            while room.inside.get("all") != count:
                await asyncio.sleep(0.005)

    async def body() -> None:
        for customer_id in (1, 1, 1, 2, 2, 2):
            await docket.add(bill)(customer_id)
        await so_many_are_in(2)
        await docket.set_limit("customer_id:1", 2)
        await so_many_are_in(3)
        await docket.set_limit("customer_id", 3)  # customer 1 has a number of its own
        await so_many_are_in(5)
        assert await docket.reset_limit("customer_id:1") == 2
        await so_many_are_in(6)
        free.set()

    await in_the_background(docket, body)
    assert sorted(room.visitors) == [1, 1, 1, 2, 2, 2]


async def test_nothing_begins_under_a_limit_of_zero(docket: Docket, work: Work) -> None:
    """So it can be paused, and goes on by itself when it is reset."""
    ran: list[int] = []

    async def bill(customer_id: int, limit: ConcurrencyLimit = ConcurrencyLimit("customer_id")) -> None:
        ran.append(customer_id)

    await docket.set_limit("customer_id:1", 0)
    paused = await docket.add(bill)(1)
    other = await docket.add(bill)(2)

    async def body() -> None:
        await ended(docket, other)
        await paused.sync()
        assert paused.state is ExecutionState.QUEUED and ran == [2]
        assert "paused" in str(await docket.why(paused.key))
        await docket.reset_limit("customer_id:1")
        await ended(docket, paused)

    await in_the_background(docket, body)
    assert ran == [2, 1]


# --- at most so many in a span of time ----------------------------------------------------------------------------


async def test_a_rate_limit_lets_what_is_too_early_wait(docket: Docket, work: Work) -> None:
    """In any span of `per` no more than `limit` begin; nothing is lost, and the order is kept."""
    began: list[tuple[int, float]] = []

    async def call_api(
        number: int, key: str = TaskKey(), rate: RateLimit = RateLimit(3, per=3 * MOMENT)
    ) -> None:
        began.append((number, await let_in(docket, key)))

    for number in range(8):
        await docket.add(call_api)(number)
    await work()
    assert sorted(number for number, _ in began) == list(range(8))
    moments = [moment for _, moment in began]
    spans = [later - earlier for earlier, later in zip(moments, moments[3:], strict=False)]
    assert all(span >= 0.3 for span in spans), spans  # three starts fit in a span, the fourth does not


async def test_a_rate_limit_for_each_value_of_an_argument(docket: Docket, work: Work) -> None:
    """In the annotation of that argument, or by `limit_by`."""
    began: list[str] = []

    async def call_api(host: Annotated[str, RateLimit(1, per=MOMENT)]) -> None:
        began.append(host)

    async def fetch(host: str, rate: RateLimit = RateLimit(1, per=MOMENT, limit_by="host")) -> None:
        began.append(host.upper())

    for host in ("a", "a", "b"):
        await docket.add(call_api)(host)
        await docket.add(fetch)(host)
    await work()
    assert sorted(began[:4]) == ["A", "B", "a", "b"] and sorted(began[4:]) == ["A", "a"]


async def test_a_rate_limit_can_drop_instead(docket: Docket, work: Work) -> None:
    began: list[int] = []

    async def refresh(number: int, rate: RateLimit = RateLimit(2, per=timedelta(hours=1), drop=True)) -> None:
        began.append(number)

    executions = [await docket.add(refresh)(number) for number in range(4)]
    await work()
    assert began == [0, 1]
    states = await ended(docket, *executions)
    assert states == [ExecutionState.COMPLETED] * 2 + [ExecutionState.CANCELLED] * 2
    assert "rate limit" in (executions[3].error or "")


async def test_a_retry_counts_as_a_start(docket: Docket, work: Work) -> None:
    """It calls what the limit protects as well."""
    began: list[float] = []

    async def call_api(
        key: str = TaskKey(), rate: RateLimit = RateLimit(1, per=MOMENT), retry: Retry = Retry(attempts=3)
    ) -> None:
        began.append(await let_in(docket, key))
        raise ConnectionError

    await docket.add(call_api)()
    await work()
    assert len(began) == 3
    assert all(later - earlier >= 0.1 for earlier, later in pairwise(began))


# --- not again so soon --------------------------------------------------------------------------------------------


async def test_a_cooldown_cancels_what_comes_too_soon_after_a_run(docket: Docket, work: Work) -> None:
    ran: list[str] = []

    async def notify(user: str, cooldown: Cooldown = Cooldown(MOMENT, limit_by="user")) -> None:
        ran.append(user)

    executions = [await docket.add(notify)(user) for user in ("ann", "bob", "ann")]
    await work()
    assert ran == ["ann", "bob"]
    assert (await ended(docket, *executions))[2] is ExecutionState.CANCELLED
    assert "cooling down" in (executions[2].error or "")
    async with asyncio.timeout(5):
        while len(ran) < 3:  # when the window is over
            await docket.add(notify)("ann")
            await work()
    assert ran == ["ann", "bob", "ann"]


async def test_a_cooldown_never_drops_a_retry(docket: Docket, work: Work) -> None:
    """Nor what is delivered again after its worker's death: the window is for other calls."""
    attempts: list[int] = []

    async def notify(
        cooldown: Cooldown = Cooldown(timedelta(hours=1)), retry: Retry = Retry(attempts=3)
    ) -> str:
        attempts.append(retry.attempt)
        if retry.attempt < 3:
            raise ConnectionError
        return "sent"

    execution = await docket.add(notify)()
    await work()
    assert attempts == [1, 2, 3]
    assert await execution.get_result() == "sent"


async def test_a_cooldown_never_drops_a_redelivery(docket: Docket) -> None:
    runs: list[bool] = []
    busy = asyncio.Event()

    async def notify(cooldown: Cooldown = Cooldown(timedelta(hours=1))) -> str:
        runs.append(True)
        busy.set()
        if len(runs) == 1:
            await asyncio.sleep(60)
        return "sent"

    execution = await docket.add(notify)()
    async with Worker(docket, drain_timeout=timedelta(0)) as worker:
        running = asyncio.create_task(worker.run_forever())
        await asyncio.wait_for(busy.wait(), 5)
        running.cancel()  # it hands back what it cannot finish
        await asyncio.gather(running, return_exceptions=True)
    async with Worker(docket) as another:
        await asyncio.wait_for(another.run_until_finished(), 10)
    assert len(runs) == 2
    assert await execution.get_result() == "sent"


async def test_a_perpetual_task_goes_on_through_a_cooldown(docket: Docket) -> None:
    """Runs within the window are left out; the chain is not."""
    began: list[float] = []

    async def poll(
        key: str = TaskKey(),
        cooldown: Cooldown = Cooldown(2 * MOMENT),
        perpetual: Perpetual = Perpetual(every=MOMENT / 5),
    ) -> None:
        began.append(await let_in(docket, key))
        if len(began) == 2:
            perpetual.cancel()

    execution = await docket.add(poll)()

    async def body() -> None:
        await ended(docket, execution)

    await in_the_background(docket, body)
    assert began[1] - began[0] >= 0.2


# --- only one of many ---------------------------------------------------------------------------------------------


async def test_debounced_calls_run_once_with_the_latest_arguments(docket: Docket, work: Work) -> None:
    """When none has come for so long. The earlier ones end cancelled."""
    saved: list[tuple[int, str]] = []

    async def save(
        document: int, text: str, debounce: Debounce = Debounce(2 * MOMENT, limit_by="document")
    ) -> None:
        saved.append((document, text))

    async def body() -> None:
        versions = [await docket.add(save)(1, text) for text in ("d", "dr", "dra", "draft")]
        other = await docket.add(save)(2, "note")
        states = await ended(docket, *versions, other)
        assert states[:3] == [ExecutionState.CANCELLED] * 3
        assert states[3:] == [ExecutionState.COMPLETED] * 2
        assert all("debounced" in (version.error or "") for version in versions[:3])

    await in_the_background(docket, body)
    assert sorted(saved) == [(1, "draft"), (2, "note")]


async def test_a_debounced_call_waits_for_quiet(docket: Docket) -> None:
    saved: list[float] = []

    async def save(debounce: Debounce = Debounce(2 * MOMENT)) -> None:
        saved.append(time.monotonic())

    async def body() -> None:
        for _ in range(3):
            latest, added = await docket.add(save)(), time.monotonic()
            await asyncio.sleep(0.08)
        await ended(docket, latest)
        assert saved[0] - added >= 0.19

    await in_the_background(docket, body)
    assert len(saved) == 1


async def test_at_the_leading_edge_the_first_runs_at_once(docket: Docket, work: Work) -> None:
    rung: list[int] = []

    async def ring(number: int, debounce: Debounce = Debounce(2 * MOMENT, edge="leading")) -> None:
        rung.append(number)

    executions = [await docket.add(ring)(number) for number in range(3)]
    await work()
    assert rung == [0]
    states = await ended(docket, *executions)
    assert states == [ExecutionState.COMPLETED] + [ExecutionState.CANCELLED] * 2


# --- together -----------------------------------------------------------------------------------------------------


async def test_limits_of_different_kinds_on_one_task(docket: Docket, work: Work) -> None:
    """A start that one of them refuses costs nothing at the others."""
    room, began = Room(), list[float]()

    async def call_api(
        name: str,
        key: str = TaskKey(),
        one_at_a_time: ConcurrencyLimit = ConcurrencyLimit("name"),
        rate: RateLimit = RateLimit(2, per=MOMENT),
    ) -> None:
        began.append(await let_in(docket, key))
        await room.visit(name)

    for name in "ababab":
        await docket.add(call_api)(name)
    await work()
    assert room.most == {"a": 1, "b": 1} and len(began) == 6
    assert all(later - earlier >= 0.1 for earlier, later in zip(began, began[2:], strict=False))


async def test_a_limit_for_every_task_of_a_worker(docket: Docket) -> None:
    room = Room()

    async def read(disk: str) -> None:
        await room.visit("worker")

    async def write(disk: str) -> None:
        await room.visit("worker")

    for _ in range(4):
        await docket.add(read)("a")
        await docket.add(write)("b")
    by_all = ConcurrencyLimit(LIMIT_BY.constant("worker"), max_concurrent=2)
    async with Worker(docket, dependencies=[by_all]) as worker:
        await asyncio.wait_for(worker.run_until_finished(), 10)
    assert room.most == {"worker": 2} and len(room.visitors) == 8


def test_mistakes_are_told_where_they_are_made(docket_name: str) -> None:
    async def bill(customer_id: int, limit: ConcurrencyLimit = ConcurrencyLimit("client_id")) -> None: ...

    with pytest.raises(ValueError, match="limits by the argument 'client_id', which it does not have"):
        Docket(docket_name).register(bill)
    with pytest.raises(ValueError, match="expected max_concurrent to be at least 1, got 0"):
        ConcurrencyLimit("customer_id", max_concurrent=0)
