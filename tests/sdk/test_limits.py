"""Limits: what they refuse to be, what they are called, and how they get on with everything else."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

import pytest

from docket import (
    LIMIT_BY,
    ConcurrencyLimit,
    ConcurrencyStrategy,
    Cooldown,
    CurrentDocket,
    Debounce,
    Depends,
    Disposition,
    Docket,
    Execution,
    ExecutionCancelled,
    ExecutionState,
    RateLimit,
    Retry,
    TaskKey,
    Worker,
)
from tests.runtime.support import Gate, SyncGate, finish, now, running, soon, until, work_off

WITHIN = timedelta(seconds=8)
HOUR = timedelta(hours=1)


@pytest.fixture
async def stranger(docket_name: str, redis_url: str):
    """A client of the same docket that has never seen a task."""
    async with Docket(docket_name, redis_url) as docket:
        yield docket


async def state_of(docket: Docket, key: str) -> str | None:
    execution = await docket.get_execution(key)
    return None if execution is None else execution.state.value


async def until_state(docket: Docket, key: str, state: str | None) -> None:
    async with asyncio.timeout(5):
        while await state_of(docket, key) != state:
            await asyncio.sleep(0.005)


async def waiting_for(docket: Docket, name: str) -> list[str]:
    async with docket.redis() as redis:
        found: Any = await redis.zrange(docket.keys.waiting(name), 0, -1)
        return [key.decode() for key in found]


async def until_waiting(docket: Docket, name: str, *keys: str) -> None:
    async with asyncio.timeout(5):
        while await waiting_for(docket, name) != list(keys):
            await asyncio.sleep(0.005)


async def holders(docket: Docket, name: str) -> set[str]:
    async with docket.redis() as redis:
        found: Any = await redis.smembers(docket.keys.concurrency(name))
        return {key.decode() for key in found}


async def nothing_is_limited(docket: Docket) -> bool:
    async with docket.redis() as redis:
        for kind in ("concurrency", "waiting", "throttled"):
            async for _ in redis.scan_iter(match=f"{docket.name}:{kind}:*"):
                return False
    return await docket.limits() == []


def limited(gate: Gate | SyncGate, **options: Any) -> Callable[..., Any]:
    """A task that holds the one permit of the limit `gate` until the gate is open."""

    async def hold(what: str = "", limit: ConcurrencyLimit = ConcurrencyLimit(**options)) -> str:
        assert isinstance(gate, Gate)
        return await gate(what)

    def hold_in_a_thread(what: str = "", limit: ConcurrencyLimit = ConcurrencyLimit(**options)) -> str:
        assert isinstance(gate, SyncGate)
        return gate(what)

    task = hold if isinstance(gate, Gate) else hold_in_a_thread
    task.__name__ = "hold"
    return task


# --- what cannot be meant -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: ConcurrencyLimit("a", 0), ValueError, "expected max_concurrent to be at least 1, got 0"),
        (lambda: ConcurrencyLimit(-1), ValueError, "expected max_concurrent to be at least 1, got -1"),
        (lambda: ConcurrencyLimit("a", 1.5), ValueError, "expected max_concurrent to be at least 1, got 1.5"),  # type: ignore
        (lambda: ConcurrencyLimit("a", "3"), ValueError, "expected max_concurrent to be at least 1, got '3'"),  # type: ignore
        (
            lambda: ConcurrencyLimit("a", on_conflict="drop"),
            ValueError,
            "expected on_conflict to be one of queue, cancel, skip, replace, got 'drop'",
        ),
        (
            lambda: ConcurrencyLimit("a", scope=""),
            ValueError,
            "expected a scope of at least one character, got ''",
        ),
        (
            lambda: ConcurrencyLimit("a", argument_name="b"),
            ValueError,
            "expected limit_by or argument_name, got both: they mean the same",
        ),
        (
            lambda: ConcurrencyLimit(2.5),  # type: ignore
            TypeError,
            "expected the name of a parameter, a list of names or a ConcurrencyStrategy to limit by, got 2.5",
        ),
        (lambda: ConcurrencyLimit(""), ValueError, "expected names of parameters, got ''"),
        (lambda: ConcurrencyLimit(["a", 3]), ValueError, "expected names of parameters, got 3"),  # type: ignore
        (
            lambda: ConcurrencyLimit([]),
            ValueError,
            "expected the name of at least one parameter to limit by",
        ),
        (lambda: LIMIT_BY.constant(""), ValueError, "expected a name for the limit, got ''"),
        (
            lambda: LIMIT_BY.fn("customer_id"),  # type: ignore
            TypeError,
            "expected a callable that takes the arguments, got 'customer_id'",
        ),
        (lambda: RateLimit(0, per=HOUR), ValueError, "expected limit to be at least 1, got 0"),
        (
            lambda: RateLimit(1, per=timedelta(0)),
            ValueError,
            "expected per to be positive, got 0:00:00",
        ),
        (lambda: RateLimit(1, per=5), TypeError, "expected per to be a timedelta, got 5"),  # type: ignore
        (
            lambda: Cooldown(-HOUR),
            ValueError,
            "expected window to be positive, got -1 day, 23:00:00",
        ),
        (lambda: Cooldown(60), TypeError, "expected window to be a timedelta, got 60"),  # type: ignore
        (
            lambda: Debounce(timedelta(0)),
            ValueError,
            "expected settle to be positive, got 0:00:00",
        ),
        (
            lambda: Debounce(HOUR, edge="both"),
            ValueError,
            "expected edge to be 'trailing' or 'leading', got 'both'",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_sentence(
    make: Callable[[], Any], error: type[Exception], sentence: str
):
    with pytest.raises(error) as raised:
        make()
    assert str(raised.value) == sentence


def registered(function: Callable[..., Any]) -> None:
    Docket().register(function)


def test_an_argument_that_the_task_does_not_have_is_told_at_registration():
    async def bill(customer_id: int, limit: ConcurrencyLimit = ConcurrencyLimit("client_id")) -> None: ...

    with pytest.raises(ValueError) as raised:
        registered(bill)
    assert str(raised.value) == (
        "ConcurrencyLimit (parameter 'limit') of bill limits by the argument 'client_id', which it does not have; "
        "it has customer_id"
    )


def test_what_is_injected_is_no_argument_to_limit_by():
    async def bill(
        retry: Retry = Retry(), rate: RateLimit = RateLimit(1, per=HOUR, limit_by="retry")
    ) -> None: ...

    with pytest.raises(
        ValueError, match=r"RateLimit \(parameter 'rate'\) of bill limits by the argument 'retry'"
    ):
        registered(bill)


async def test_adding_a_function_tells_it_as_well(docket: Docket):
    async def bill(limit: ConcurrencyLimit = ConcurrencyLimit(["a", "b"])) -> None: ...

    with pytest.raises(ValueError, match="'a', which it does not have; it has none"):
        docket.add(bill)


def test_only_one_debounce_can_decide():
    async def save(document: Annotated[int, Debounce(HOUR)], debounce: Debounce = Debounce(HOUR)) -> None: ...

    with pytest.raises(ValueError, match="Only one Debounce dependency is allowed per task; save has"):
        registered(save)


def test_a_limit_of_a_dependency_is_refused_because_it_would_limit_nothing():
    async def client(limit: ConcurrencyLimit = ConcurrencyLimit()) -> None: ...

    async def call_api(client: None = Depends(client)) -> None: ...

    with pytest.raises(ValueError, match=r"ConcurrencyLimit \(parameter 'limit'\) .* state it in the task"):
        registered(call_api)


async def test_arguments_by_any_name_are_limited_by_any(docket: Docket):
    gate = Gate()

    async def hold(limit: ConcurrencyLimit = ConcurrencyLimit("tenant"), **more: Any) -> None:
        await gate(more["tenant"])

    async with running(docket):
        await docket.add(hold, key="a")(tenant="x")
        await gate.has_begun()
        await docket.add(hold, key="b")(tenant="x")
        await docket.add(hold, key="c")(tenant="y")
        await gate.has_begun()
        assert await waiting_for(docket, "tenant:x") == ["b"]
        gate.open.set()
        await until(lambda: len(gate.log) == 6)
    assert gate.most_inside == 2


def test_outside_of_a_task_a_limit_has_no_key():
    limit = ConcurrencyLimit("customer_id", 3)
    assert (limit.argument_name, limit.max_concurrent, limit.scope) == ("customer_id", 3, None)
    assert ConcurrencyLimit(argument_name="customer_id").argument_name == "customer_id"
    assert ConcurrencyLimit(3).argument_name is None
    with pytest.raises(RuntimeError, match="only the limit that a running task was given"):
        _ = limit.concurrency_key


# --- what a limit is called ---------------------------------------------------------------------------------------


class Tier(enum.Enum):
    GOLD = "gold"


LONG = "x" * 1000


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (1001, "1001"),
        ("", ""),
        (None, "None"),
        (True, "True"),
        (1.5, "1.5"),
        (b"\xff", "b'\\xff'"),
        (Tier.GOLD, "gold"),
        (["a", 1], "['a', 1]"),
        ("Zürich 東京 🚲", "Zürich 東京 🚲"),
        ("two\nlines\x00and a nul", "two\nlines\x00and a nul"),
        ("a:b:{c}*?[d]", "a:b:{c}*?[d]"),
        ("\ud800", "?"),
    ],
    ids=repr,
)
async def test_odd_values_name_a_limit(docket: Docket, value: Any, name: str):
    seen: list[int] = []

    async def hold(value: Any, limit: ConcurrencyLimit = ConcurrencyLimit("value")) -> None:
        async with docket.redis() as redis:
            seen.append(await redis.scard(f"{docket.name}:concurrency:value:{name}"))

    await asyncio.gather(*(docket.add(hold)(value) for _ in range(2)))
    await work_off(docket)
    assert seen == [1, 1]


async def test_long_values_are_told_apart_by_their_hash(docket: Docket):
    gate, names = Gate(), list[str]()

    async def hold(value: str, limit: ConcurrencyLimit = ConcurrencyLimit("value")) -> None:
        names.append(limit.concurrency_key)
        await gate(value[-1])

    for end in "abb":
        await docket.add(hold)(LONG + end)
    async with running(docket):
        await until(lambda: gate.inside == 2)
        gate.open.set()
        await until(lambda: len(gate.log) == 6)
    assert len(set(names)) == 2 and all(len(name) < 300 for name in names)


class Unprintable:
    def __str__(self) -> str:
        raise ZeroDivisionError("no name")


async def test_a_value_that_cannot_be_shown_fails_its_execution(docket: Docket):
    async def hold(value: Any, limit: ConcurrencyLimit = ConcurrencyLimit("value")) -> None: ...

    execution = await docket.add(hold)(Unprintable())
    await work_off(docket)
    with pytest.raises(ZeroDivisionError, match="no name"):
        await execution.get_result(timeout=WITHIN)


async def test_the_name_has_the_scope_before_it(docket: Docket):
    names: list[str] = []

    async def hold(
        a: int,
        b: int,
        first: ConcurrencyLimit = ConcurrencyLimit(["a", "b"], scope="reports"),
        second: ConcurrencyLimit = ConcurrencyLimit(scope="reports"),
        third: ConcurrencyLimit = ConcurrencyLimit(LIMIT_BY.constant("all")),
    ) -> None:
        names.extend(limit.concurrency_key for limit in (first, second, third))

    await docket.add(hold)(1, b=2)
    await work_off(docket)
    prefix = f"{docket.name}:concurrency:"
    assert names == [f"{prefix}reports:a:1:b:2", f"{prefix}reports:hold", f"{prefix}all"]


# --- strategies of a user's own -----------------------------------------------------------------------------------


class Raising(ConcurrencyStrategy):
    def get_key(self, execution: Execution) -> str:
        raise LookupError(f"no tier for {execution.key}")


class Leaving(ConcurrencyStrategy):
    def get_key(self, execution: Execution) -> str:
        raise SystemExit(3)


class Waiting(ConcurrencyStrategy):
    async def get_key(self, execution: Execution) -> str:  # type: ignore[override]
        await asyncio.sleep(0)
        return f"key:{execution.get_argument('value')}"


class Silent(ConcurrencyStrategy): ...


@pytest.mark.parametrize(
    ("strategy", "error", "text"),
    [
        (Raising(), LookupError, "no tier for k"),
        (Leaving(), BaseException, "3"),
        (Silent(), NotImplementedError, "Silent must say in get_key"),
        (LIMIT_BY.fn(lambda arguments: arguments["missing"]), KeyError, "missing"),
        (LIMIT_BY.fn(lambda _: ""), ValueError, "ConcurrencyLimit was given an empty key to limit by"),
    ],
    ids=["raises", "leaves", "says nothing", "knows no such argument", "empty"],
)
async def test_a_strategy_that_fails_fails_its_execution_only(
    docket: Docket, strategy: ConcurrencyStrategy, error: type[BaseException], text: str
):
    ran: list[int] = []

    async def hold(value: int = 1, limit: ConcurrencyLimit = ConcurrencyLimit(strategy)) -> None:
        ran.append(value)

    async def other() -> str:
        return "still there"

    failing = await docket.add(hold, key="k")()
    neighbour = await docket.add(other)()
    await work_off(docket)
    with pytest.raises(error, match=text):
        await failing.get_result(timeout=WITHIN)
    await failing.sync()
    assert failing.state is ExecutionState.FAILED and ran == []
    assert await neighbour.get_result(timeout=WITHIN) == "still there"
    assert await nothing_is_limited(docket)


async def test_a_strategy_that_fails_is_tried_again_as_the_task_says(docket: Docket):
    asked: list[int] = []

    def by(arguments: Mapping[str, Any]) -> str:
        asked.append(1)
        if len(asked) < 3:
            raise ConnectionError
        return "key"

    async def hold(
        limit: ConcurrencyLimit = ConcurrencyLimit(LIMIT_BY.fn(by)), retry: Retry = Retry(attempts=3)
    ) -> int:
        return retry.attempt

    execution = await docket.add(hold)()
    await work_off(docket)
    assert await execution.get_result(timeout=WITHIN) == 3


async def test_a_strategy_may_be_a_coroutine_function(docket: Docket):
    gate = Gate()

    async def hold(value: int, limit: ConcurrencyLimit = ConcurrencyLimit(Waiting())) -> None:
        await gate(str(value))

    for value in (1, 1, 2):
        await docket.add(hold)(value)
    async with running(docket):
        await until(lambda: gate.inside == 2)
        async with asyncio.timeout(5):
            while len(await waiting_for(docket, "key:1")) != 1:
                await asyncio.sleep(0.005)
        gate.open.set()
        await until(lambda: len(gate.log) == 6)


@pytest.mark.parametrize(
    "key",
    ["a\ud800b", "nul\x00", "x" * 100_000, 7, ("a", 1)],
    ids=["surrogate", "nul", "long", "int", "tuple"],
)
async def test_odd_keys_of_a_strategy_count_like_any(docket: Docket, key: Any):
    inside, most = 0, 0

    async def hold(limit: ConcurrencyLimit = ConcurrencyLimit(LIMIT_BY.fn(lambda _: key))) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.005)
        inside -= 1

    executions = [await docket.add(hold)() for _ in range(4)]
    await work_off(docket)
    for execution in executions:
        await execution.get_result(timeout=WITHIN)
    assert most == 1
    assert await nothing_is_limited(docket)


async def test_a_class_of_strategies_stands_for_its_instance(docket: Docket):
    class ByKey(ConcurrencyStrategy):
        def get_key(self, execution: Execution) -> str:
            return execution.key[0]

    gate = Gate()
    async with running(docket):
        hold = limited(gate, limit_by=ByKey)
        for key in ("a1", "a2", "b1"):
            await docket.add(hold, key=key)(key)
        await until(lambda: gate.inside == 2)
        gate.open.set()
        await until(lambda: len(gate.log) == 6)


# --- added by name ------------------------------------------------------------------------------------------------


async def test_a_client_that_has_never_seen_the_task_is_bound_by_its_limits(docket: Docket, stranger: Docket):
    gate = Gate()
    docket.register(limited(gate), names=["hold"])
    async with running(docket):
        await stranger.add("hold")("0")
        await gate.has_begun()
        keys = [(await stranger.add("hold")(str(number))).key for number in range(1, 4)]
        await until_waiting(docket, "hold", *keys)
        gate.open.set()
        await until(lambda: len(gate.log) == 8)
    assert gate.most_inside == 1
    assert gate.log[::2] == [f"began {number}".strip() for number in range(4)]


async def test_also_before_any_worker_has_told_of_the_task(docket: Docket, stranger: Docket):
    for number in range(4):
        await stranger.add("hold")(str(number))
    gate = Gate()
    gate.open.set()
    docket.register(limited(gate), names=["hold"])
    await work_off(docket)
    assert gate.most_inside == 1 and len(gate.log) == 8


async def test_a_limit_by_an_argument_counts_both_who_know_and_who_do_not(docket: Docket, stranger: Docket):
    gate = Gate()

    async def hold(customer: int, limit: ConcurrencyLimit = ConcurrencyLimit("customer")) -> None:
        await gate()

    docket.register(hold)
    async with running(docket):
        await docket.add(hold, key="a")(1)
        await gate.has_begun()
        await stranger.add("hold", key="b")(1)
        await docket.add(hold, key="c")(customer=1)
        async with asyncio.timeout(5):
            while sorted(await waiting_for(docket, "customer:1")) != ["b", "c"]:
                await asyncio.sleep(0.005)
        gate.open.set()
        await until(lambda: len(gate.log) == 6)
    assert gate.most_inside == 1


# --- beside everything else ---------------------------------------------------------------------------------------


async def test_cancelling_one_that_waits(docket: Docket):
    gate = Gate()
    hold = limited(gate)
    async with running(docket):
        await docket.add(hold, key="a")("a")
        await gate.has_begun()
        waiting = [await docket.add(hold, key=key)(key) for key in "bc"]
        await until_waiting(docket, "hold", "b", "c")
        await docket.cancel("b")
        assert await state_of(docket, "b") == "cancelled"
        assert await waiting_for(docket, "hold") == ["c"]
        with pytest.raises(ExecutionCancelled):
            await waiting[0].get_result(timeout=WITHIN)
        gate.open.set()
        await waiting[1].get_result(timeout=WITHIN)
    assert gate.log == ["began a", "ended a", "began c", "ended c"]


async def test_cancelling_the_holder_lets_the_next_begin_when_its_body_has_ended(docket: Docket):
    gate = SyncGate()
    hold = limited(gate)
    async with running(docket, drain_timeout=timedelta(seconds=5)):
        await docket.add(hold, key="a")("a")
        await gate.has_begun()
        await docket.add(hold, key="b")("b")
        await until_waiting(docket, "hold", "b")
        await docket.cancel("a")
        assert await state_of(docket, "a") == "cancelled"
        assert await holders(docket, "hold") == {"a"}  # its body still runs, shielded
        assert await waiting_for(docket, "hold") == ["b"]
        gate.open.set()
        await until_state(docket, "b", "completed")
    assert gate.most_inside == 1
    assert await nothing_is_limited(docket)


async def test_cancelling_one_that_was_admitted_and_has_not_begun(docket: Docket):
    """Its permit goes to the next in line, though no worker ever claims it."""
    gate = Gate()
    hold = limited(gate)
    async with running(docket, concurrency=1):
        await docket.add(hold, key="a")("a")
        await gate.has_begun()
    # The worker has handed it back; now nobody is there, and `a` is next.
    await docket.add(hold, key="b")("b")
    await docket.add(hold, key="c")("c")
    await docket.cancel("a")
    gate.open.set()
    await work_off(docket)
    assert gate.log[-4:] == ["began b", "ended b", "began c", "ended c"]
    assert await nothing_is_limited(docket)


async def test_replacing_one_that_waits_gives_it_the_limits_of_its_new_arguments(docket: Docket):
    gate = Gate()

    async def hold(what: str, limit: ConcurrencyLimit = ConcurrencyLimit("what")) -> None:
        await gate(what)

    async with running(docket):
        await docket.add(hold, key="a")("x")
        await gate.has_begun()
        await docket.add(hold, key="b")("x")
        await until_waiting(docket, "what:x", "b")
        await docket.replace(hold, None, "b")("y")
        await gate.has_begun()
        assert await waiting_for(docket, "what:x") == []
        assert gate.log == ["began x", "began y"]
        gate.open.set()
        await until(lambda: len(gate.log) == 4)


async def test_replacing_the_holder_itself(docket: Docket):
    """The permit belongs to the body that runs; the new call needs one of its own, after those that waited."""
    gate = SyncGate()
    hold = limited(gate)
    async with running(docket, drain_timeout=timedelta(seconds=5)):
        await docket.add(hold, key="a")("old")
        await gate.has_begun()
        await docket.add(hold, key="b")("b")
        await until_waiting(docket, "hold", "b")
        await docket.replace(hold, None, "a")("new")
        assert await holders(docket, "hold") == {"a"}
        gate.open.set()
        await until_state(docket, "a", "completed")
        await until_state(docket, "b", "completed")
    assert gate.most_inside == 1
    assert sorted(gate.log[::2]) == ["began b", "began new", "began old"]
    assert await nothing_is_limited(docket)


async def test_clearing_leaves_the_holders_alone(docket: Docket):
    gate = Gate()
    hold = limited(gate)
    async with running(docket):
        first = await docket.add(hold, key="a")("a")
        await gate.has_begun()
        await docket.add_many([docket.call(hold)(str(number)) for number in range(20)])
        assert len(await waiting_for(docket, "hold")) == 20
        assert await docket.clear() == 20
        assert await waiting_for(docket, "hold") == []
        assert await holders(docket, "hold") == {"a"}
        gate.open.set()
        assert await first.get_result(timeout=WITHIN) == "a"
    assert gate.log == ["began a", "ended a"]
    assert await nothing_is_limited(docket)


async def test_a_struck_task_gives_its_permit_to_others(docket: Docket):
    gate, other_gate = Gate(), Gate()
    shared = {"limit_by": LIMIT_BY.constant("L")}
    docket.register(limited(gate, **shared), names=["struck"])
    docket.register(limited(other_gate, **shared), names=["other"])
    async with running(docket):
        await docket.add("other")("first")
        await other_gate.has_begun()
        struck = await docket.add("struck", key="s")()
        held = await docket.add("struck", key="h")("held")
        await docket.add("other", key="o")("second")
        await until_waiting(docket, "L", "s", "h", "o")
        await docket.strike("struck", "what", "==", "")
        await docket.strike("struck", "what", "==", "held", hold=True)
        other_gate.open.set()
        await until_state(docket, "o", "completed")
        assert gate.log == []
        with pytest.raises(ExecutionCancelled, match="struck"):
            await struck.get_result(timeout=WITHIN)
        assert await nothing_is_limited(docket)  # who is held holds no permit
        await docket.restore("struck", "what", "==", "held")
        await gate.has_begun()
        assert await holders(docket, "L") == {"h"}
        gate.open.set()
        assert await held.get_result(timeout=WITHIN) == "held"
    await docket.restore("struck", "what", "==", "")


async def test_a_chain_under_a_limit(docket: Docket):
    """The successor is scheduled from inside, waits for the body, and is admitted like anybody."""
    runs, inside, most = list[int](), 0, 0

    async def link(
        number: int,
        key: str = TaskKey(),
        own: Docket = CurrentDocket(),
        limit: ConcurrencyLimit = ConcurrencyLimit(),
    ) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        runs.append(number)
        if number < 5:
            again = await own.add(link, key=key)(number + 1)
            assert again.disposition is Disposition.SCHEDULED
        await asyncio.sleep(0.002)
        inside -= 1

    await docket.add(link, key="chain")(0)
    await docket.add(link, key="another")(3)
    await work_off(docket)
    assert sorted(runs) == [0, 1, 2, 3, 3, 4, 4, 5, 5] and most == 1
    assert await nothing_is_limited(docket)


async def test_a_retry_after_a_pause_holds_no_permit_meanwhile(docket: Docket):
    log: list[str] = []

    async def upload(
        name: str,
        limit: ConcurrencyLimit = ConcurrencyLimit(),
        retry: Retry = Retry(attempts=2, delay=timedelta(milliseconds=100)),
    ) -> None:
        log.append(f"{name} {retry.attempt}")
        if name == "a" and retry.attempt == 1:
            raise ConnectionError

    for name in "abc":
        await docket.add(upload)(name)
    await work_off(docket)
    assert log == ["a 1", "b 1", "c 1", "a 2"]


async def test_what_leaves_no_record_is_limited_alike(docket_name: str, redis_url: str):
    gate = Gate()
    async with Docket(docket_name, redis_url, execution_ttl=timedelta(0)) as docket:
        hold = limited(gate)
        async with running(docket):
            for key in "abc":
                await docket.add(hold, key=key)(key)
            await until_waiting(docket, "hold", "b", "c")
            await docket.cancel("b")
            assert await state_of(docket, "b") is None
            gate.open.set()
            await until_state(docket, "c", None)
        assert gate.most_inside == 1 and gate.log == ["began a", "ended a", "began c", "ended c"]
        assert await nothing_is_limited(docket)
        async with docket.redis() as redis:
            assert [key async for key in redis.scan_iter(match=f"{docket_name}:runs:*")] == []


async def test_what_waits_survives_the_worker_that_put_it_in_line(docket: Docket, stranger: Docket):
    gate = Gate()
    docket.register(limited(gate), names=["hold"])
    async with running(docket):
        await stranger.add("hold", key="a")("a")
        await gate.has_begun()
        await stranger.add("hold", key="b")("b")
        await until_waiting(docket, "hold", "b")
    assert await state_of(docket, "a") == "queued" and await state_of(docket, "b") == "queued"
    gate.open.set()
    await work_off(docket)
    assert gate.most_inside == 1
    assert gate.log[-4:] in (
        ["began a", "ended a", "began b", "ended b"],
        ["began b", "ended b", "began a", "ended a"],
    )


async def test_a_drain_while_a_strategy_thinks_hands_its_execution_back(docket: Docket):
    thinking, ran = asyncio.Event(), list[str]()
    answer = asyncio.Event()

    class Slow(ConcurrencyStrategy):
        async def get_key(self, execution: Execution) -> str:  # type: ignore[override]
            thinking.set()
            await answer.wait()
            return "slow"

    async def hold(limit: ConcurrencyLimit = ConcurrencyLimit(Slow())) -> None:
        ran.append("ran")

    execution = await docket.add(hold)()
    async with running(docket):
        await asyncio.wait_for(thinking.wait(), 5)
    await execution.sync()
    assert execution.state is ExecutionState.QUEUED and ran == []
    answer.set()
    await work_off(docket)
    await execution.get_result(timeout=WITHIN)
    assert ran == ["ran"] and execution.attempt == 1


async def test_a_slot_is_never_held_by_one_that_waits(docket: Docket):
    """One slot for whatever runs beside the holder; a hundred wait under the limit, and others pass."""
    gate, ran = Gate(), list[int]()
    hold = limited(gate)

    async def free(number: int) -> None:
        ran.append(number)

    async with running(docket, concurrency=2):
        await docket.add(hold)("a")
        await gate.has_begun()
        await docket.add_many([docket.call(hold)(str(number)) for number in range(100)])
        executions = await docket.add_many([docket.call(free)(number) for number in range(10)])
        await asyncio.gather(*(execution.get_result(timeout=WITHIN) for execution in executions))
        assert gate.log == ["began a"]
        await docket.clear()
        gate.open.set()
        await until(lambda: len(gate.log) == 2)
    assert sorted(ran) == list(range(10))


async def test_replacing_again_before_the_first_has_given_way(docket: Docket):
    """The newcomer takes the place of the one that waited to replace."""
    gate = SyncGate()
    hold = limited(gate, on_conflict="replace")
    async with running(docket, drain_timeout=timedelta(seconds=5)):
        for key in "abc":
            await docket.add(hold, key=key)(key)
            if key == "a":
                await gate.has_begun()
            else:
                await until_waiting(docket, "hold", key)
        assert [await state_of(docket, key) for key in "abc"] == ["cancelled", "cancelled", "queued"]
        assert "replaced" in ((await docket.get_execution("b")) or Execution).error  # type: ignore[operator]
        gate.open.set()
        await until_state(docket, "c", "completed")
    assert gate.most_inside == 1 and gate.log[::2] == ["began a", "began c"]


async def test_refusing_a_task_of_a_dozen_limits_takes_no_permit(docket: Docket):
    """Nothing is held of what the last of them refuses."""

    async def hold(a: ConcurrencyLimit = ConcurrencyLimit(LIMIT_BY.constant("never"))) -> None: ...

    async def many(
        never: ConcurrencyLimit = ConcurrencyLimit(LIMIT_BY.constant("never")),
        b: ConcurrencyLimit = ConcurrencyLimit(LIMIT_BY.constant("b")),
        c: ConcurrencyLimit = ConcurrencyLimit(LIMIT_BY.constant("c")),
        rate: RateLimit = RateLimit(1, per=HOUR),
        cooldown: Cooldown = Cooldown(HOUR),
    ) -> None: ...

    await docket.set_limit("never", 0)
    blocked = await docket.add(many)()
    async with running(docket):
        await until_waiting(docket, "never", blocked.key)
        assert await holders(docket, "b") == await holders(docket, "c") == set()
        async with docket.redis() as redis:
            assert await redis.exists(docket.keys.rates("many")) == 0
        await docket.reset_limit("never")
        await blocked.get_result(timeout=WITHIN)
    assert await nothing_is_limited(docket)


# --- worker-wide --------------------------------------------------------------------------------------------------


async def test_a_limit_of_the_worker_and_one_of_the_task_both_count(docket: Docket):
    gate = Gate()

    async def hold(customer: int, limit: ConcurrencyLimit = ConcurrencyLimit("customer")) -> None:
        await gate(str(customer))

    everywhere = ConcurrencyLimit(LIMIT_BY.constant("worker"), max_concurrent=2)
    async with running(docket, dependencies=[everywhere]):
        for customer in (1, 1, 2, 3):
            await docket.add(hold, key=f"{customer}-{len(gate.log)}-{time.monotonic_ns()}")(customer)
        await until(lambda: gate.inside == 2)
        assert len(await holders(docket, "worker")) == 2
        gate.open.set()
        await until(lambda: len(gate.log) == 8)
    assert gate.most_inside == 2
    assert await nothing_is_limited(docket)


async def test_a_limit_of_the_worker_by_an_argument_that_a_task_does_not_have_fails_it(docket: Docket):
    async def other(name: str) -> None: ...

    execution = await docket.add(other)("x")
    by_customer = ConcurrencyLimit("customer")
    async with Worker(docket, dependencies=[by_customer]) as worker:
        await finish(worker)
    with pytest.raises(KeyError, match="no argument 'customer' to limit by"):
        await execution.get_result(timeout=WITHIN)


# --- deploys ------------------------------------------------------------------------------------------------------


async def test_a_worker_whose_code_admits_fewer_holds_to_that(docket: Docket, stranger: Docket):
    """Whoever added it was of an older version: what counts is what the worker's code says."""
    gate = Gate()
    docket.register(limited(gate, max_concurrent=1), names=["hold"])
    stranger.register(limited(Gate(), max_concurrent=3), names=["hold"])
    for number in range(6):
        await stranger.add("hold")(str(number))
    async with running(docket):
        await gate.has_begun()
        async with asyncio.timeout(5):
            while len(await waiting_for(docket, "hold")) != 5:
                await asyncio.sleep(0.005)
        gate.open.set()
        await until(lambda: len(gate.log) == 12)
    assert gate.most_inside == 1
    assert await nothing_is_limited(docket)


async def test_an_operator_outvotes_every_version(docket: Docket):
    gate = Gate()
    hold = limited(gate, max_concurrent=2)
    await docket.set_limit("hold", 4)
    async with running(docket):
        for number in range(6):
            await docket.add(hold)(str(number))
        await until(lambda: gate.inside == 4)
        assert len(await waiting_for(docket, "hold")) == 2
        assert await docket.set_limit("hold", 1) == 4
        gate.open.set()
        await until(lambda: len(gate.log) == 12)
    assert gate.most_inside == 4
    assert await docket.reset_limit("hold") == 1
    assert await docket.reset_limit("hold") is None


async def test_a_number_below_nothing_is_refused(docket: Docket):
    with pytest.raises(ValueError, match="expected a limit to admit 0 or more, got -1"):
        await docket.set_limit("hold", -1)
    with pytest.raises(ValueError, match="expected the name of a limit, got ''"):
        await docket.set_limit("", 1)


# --- rates, cooldowns, debounces ----------------------------------------------------------------------------------


@pytest.mark.measured
async def test_a_cancelled_start_counts_no_more_than_it_began(docket: Docket):
    """What waits for a rate limit and is cancelled has used nothing of it."""
    ran: list[str] = []

    async def call_api(name: str, rate: RateLimit = RateLimit(1, per=timedelta(milliseconds=300))) -> None:
        ran.append(name)

    async with running(docket):
        await (await docket.add(call_api)("a")).get_result(timeout=WITHIN)
        began = time.monotonic()
        await docket.add(call_api, key="b")("b")
        last = await docket.add(call_api, key="c")("c")
        await docket.cancel("b")
        await last.get_result(timeout=WITHIN)
        assert time.monotonic() - began < 0.5
    assert ran == ["a", "c"]


async def test_a_cleared_line_of_a_rate_limit_leaves_nothing(docket: Docket):
    async def call_api(rate: RateLimit = RateLimit(1, per=HOUR)) -> None: ...

    async with running(docket):
        await (await docket.add(call_api)()).get_result(timeout=WITHIN)
        await docket.add_many([docket.call(call_api)() for _ in range(10)])
        async with docket.redis() as redis:
            async with asyncio.timeout(5):
                while await redis.zcard(docket.keys.throttled("call_api")) != 10:
                    await asyncio.sleep(0.005)
            (limit,) = await docket.limits()
            assert (limit.kind, limit.most, limit.used, limit.waiting) == ("rate", 1, 1, 10)
            assert await docket.clear() == 10
            assert await redis.exists(docket.keys.throttled("call_api"), docket.keys.alarms) == 0


async def test_a_call_refused_by_one_limit_leaves_the_cooldown_cold(docket: Docket):
    """Only a run begins the window: not one that another limit cancels."""
    gate, ran = Gate(), list[str]()
    docket.register(limited(gate, limit_by=LIMIT_BY.constant("L")), names=["hold"])
    by_l = ConcurrencyLimit(LIMIT_BY.constant("L"), on_conflict="cancel")

    async def notify(limit: ConcurrencyLimit = by_l, cooldown: Cooldown = Cooldown(HOUR)) -> None:
        ran.append("notify")

    async with running(docket):
        await docket.add("hold", key="h")()
        await gate.has_begun()
        refused = await docket.add(notify)()
        with pytest.raises(ExecutionCancelled, match="its concurrency limit L has no permit free"):
            await refused.get_result(timeout=WITHIN)
        gate.open.set()
        await until_state(docket, "h", "completed")
        await (await docket.add(notify)()).get_result(timeout=WITHIN)
    assert ran == ["notify"]


async def test_a_debounced_call_that_is_cancelled_takes_nobody_with_it(docket: Docket):
    ran: list[str] = []

    async def save(text: str, debounce: Debounce = Debounce(timedelta(milliseconds=150))) -> None:
        ran.append(text)

    async with running(docket):
        await docket.add(save, key="a")("a")
        await until_state(docket, "a", "scheduled")
        await docket.cancel("a")
        await (await docket.add(save, key="b")("b")).get_result(timeout=WITHIN)
    assert ran == ["b"]


async def test_replacing_a_debounced_call_keeps_it_waiting(docket: Docket):
    ran: list[str] = []

    async def save(text: str, debounce: Debounce = Debounce(timedelta(milliseconds=150))) -> None:
        ran.append(text)

    async with running(docket):
        await docket.add(save, key="k")("old")
        await until_state(docket, "k", "scheduled")
        replaced = await docket.replace(save, None, "k")("new")
        await replaced.get_result(timeout=WITHIN)
    assert ran == ["new"]


async def test_a_debounced_task_runs_again_after_it_has_settled(docket: Docket):
    ran: list[str] = []

    async def save(text: str, debounce: Debounce = Debounce(timedelta(milliseconds=40))) -> None:
        ran.append(text)

    async with running(docket):
        for text in "ab":
            await (await docket.add(save)(text)).get_result(timeout=WITHIN)
    assert ran == ["a", "b"]


# --- future calls whose limits are decided when they are due ------------------------------------------------------


async def test_a_call_for_later_whose_limits_only_its_worker_knows(docket: Docket, stranger: Docket):
    gate = Gate()
    docket.register(limited(gate), names=["hold"])
    async with running(docket):
        executions = [await stranger.add("hold", when=soon(milliseconds=60))(str(n)) for n in range(3)]
        await gate.has_begun()
        gate.open.set()
        for execution in executions:
            await execution.get_result(timeout=WITHIN)
    assert gate.most_inside == 1


async def test_a_call_for_later_that_is_refused_when_it_is_due(docket: Docket):
    gate = Gate()
    hold = limited(gate, on_conflict="cancel")
    async with running(docket):
        await docket.add(hold, key="a")("a")
        await gate.has_begun()
        later = await docket.add(hold, when=soon(milliseconds=50))("b")
        with pytest.raises(ExecutionCancelled, match="has no permit free"):
            await later.get_result(timeout=WITHIN)
        gate.open.set()
    assert now() > later.when


async def test_two_rates_of_one_task_both_hold(docket: Docket):
    """So many in a second and so many in a minute: neither forgets starts that the other counts."""
    burst, sustained = timedelta(milliseconds=100), timedelta(milliseconds=600)

    async def call_api(
        burst: RateLimit = RateLimit(2, per=burst), sustained: RateLimit = RateLimit(3, per=sustained)
    ) -> None: ...

    executions = await docket.add_many([docket.call(call_api)() for _ in range(6)])
    await work_off(docket)
    let_in: list[datetime] = []
    for each in executions:
        await each.sync()
        assert each.started_at is not None
        let_in.append(each.started_at)
    let_in.sort()
    for count, per in ((2, burst), (3, sustained)):
        assert all(later - earlier >= per for earlier, later in zip(let_in, let_in[count:], strict=False))


async def test_what_a_rate_limit_has_used_is_what_its_window_holds(docket: Docket):
    """Though older starts are kept, for others of the same name."""
    ran: list[str] = []

    async def often(
        k: int, rate: RateLimit = RateLimit(2, per=timedelta(milliseconds=150), limit_by="k")
    ) -> None:
        ran.append("often")

    async def seldom(k: int, rate: RateLimit = RateLimit(3, per=HOUR, limit_by="k")) -> None:
        ran.append("seldom")

    async with running(docket):
        for _ in range(3):
            await (await docket.add(often)(1)).get_result(timeout=WITHIN)
        await docket.add(seldom, key="waits")(1)
        async with asyncio.timeout(5):
            while not await docket.limits():
                await asyncio.sleep(0.005)
        (limit,) = await docket.limits()
        assert (limit.name, limit.most, limit.used, limit.waiting) == ("k:1", 3, 3, 1)
    assert ran == ["often"] * 3
    await docket.clear()
