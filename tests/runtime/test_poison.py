"""Whatever lies in Redis, whatever tasks do: the worker survives, and exactly that execution is set aside or fails."""

from __future__ import annotations

import asyncio
import pickle
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Any

import cloudpickle
import pytest

from docket import (
    Agenda,
    ConcurrencyLimit,
    DeadLetter,
    Depends,
    Docket,
    ExecutionCancelled,
    RateLimit,
    Retry,
    TaskFailed,
    Worker,
)
from docket.annotations import Logged
from tests.runtime.support import NO_TIME, SHORT, Gate, finish, running, soon, until, work_off

LIMIT = timedelta(seconds=5)


@pytest.fixture
async def neighbours(docket: Docket) -> Any:
    """Ten tasks before and after the poison; calling this says which of them have run."""
    ran: list[int] = []

    async def neighbour(number: int) -> None:
        ran.append(number)

    docket.register(neighbour)
    return ran


async def add_neighbours(docket: Docket, first: int) -> None:
    await docket.add_many([docket.call("neighbour")(number) for number in range(first, first + 10)])


async def forget(docket: Docket, key: str) -> None:
    """What a test broke is taken away again."""
    async with docket.redis() as redis:
        await redis.delete(docket.keys.runs(key))
    await docket.purge_dead()


# --- what lies in the stream ----------------------------------------------------------------------------------------

GARBAGE: dict[str, dict[Any, Any]] = {
    "no field of ours": {"x": "y"},
    "not text": {b"\xff\xfe": b"\x00\x80\xff"},
    "a key that is not UTF-8": {"k": b"\xff\xfe\x00", "g": "1"},
    "a key without record": {"k": "nobody", "g": "1"},
    "an empty key": {"k": "", "g": "1"},
    "no generation": {"k": "nobody"},
    "a megabyte": {"k": "x" * (1 << 20)},
    "the reference's fields": {
        "key": "a",
        "function": "f",
        "args": b"\x80\x05",
        "kwargs": b"",
        "when": "now",
    },
}


@pytest.mark.parametrize("lane", ["stream", "redelivered", "suspects"])
@pytest.mark.parametrize("fields", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_in_a_stream_is_set_aside(
    docket: Docket, neighbours: list[int], fields: dict[Any, Any], lane: str
):
    await add_neighbours(docket, 0)
    async with docket.redis() as redis:
        await redis.xadd(getattr(docket.keys, lane), fields)
    await add_neighbours(docket, 10)
    await work_off(docket)
    assert sorted(neighbours) == list(range(20))
    (dead,) = await docket.dead_letters()
    assert dead.error
    snapshot = await docket.snapshot()
    assert not snapshot.future and [each.key for each in snapshot.dead] == [dead.key]
    assert not await docket.retry_dead(dead.key)
    assert await docket.purge_dead() == 1


async def test_garbage_given_to_a_waiting_worker_is_set_aside(docket: Docket, neighbours: list[int]):
    async with running(docket):
        async with docket.redis() as redis:
            for fields in GARBAGE.values():
                await redis.xadd(docket.keys.stream, fields)
        await add_neighbours(docket, 0)
        await until(lambda: len(neighbours) == 10)
    assert len(await docket.dead_letters()) == len(GARBAGE)
    assert await docket.purge_dead() == len(GARBAGE)


async def test_hundreds_of_garbage_entries_do_not_stop_a_worker(docket: Docket, neighbours: list[int]):
    async with docket.redis() as redis:
        for number in range(300):
            await redis.xadd(docket.keys.stream, {"garbage": number})
    await add_neighbours(docket, 0)
    await work_off(docket)
    assert len(neighbours) == 10
    assert await docket.purge_dead() == 300


# --- broken records --------------------------------------------------------------------------------------------------

FIELDS = ["state", "function", "body", "when_us", "generation", "attempt", "ttl_ms", "entry"]


async def fails_once(retry: Retry = Retry(attempts=2)) -> None:
    if retry.attempt == 1:
        raise ValueError("the first attempt fails")


@pytest.mark.leaves_keys("a record that nothing points to any more is nobody's")
@pytest.mark.parametrize("value", [None, b"", b"x", b"-1", b"\xff\xfe", b"1e400"])
@pytest.mark.parametrize("field", FIELDS)
async def test_a_broken_field_hurts_nobody_else(
    docket: Docket, neighbours: list[int], field: str, value: bytes | None
):
    await add_neighbours(docket, 0)
    execution = await docket.add(fails_once, key="broken")()
    await add_neighbours(docket, 10)
    async with docket.redis() as redis:
        if value is None:
            await redis.hdel(docket.keys.runs("broken"), field)
        else:
            await redis.hset(docket.keys.runs("broken"), field, value)
    await work_off(docket, 3)
    assert sorted(neighbours) == list(range(20))
    await docket.snapshot()
    await docket.dead_letters()
    await docket.get_execution(execution.key)
    await docket.purge_dead()


@pytest.mark.parametrize("state", ["queued", "scheduled", "running"])
async def test_a_record_of_another_type_hurts_nobody_else(docket: Docket, neighbours: list[int], state: str):
    begun = asyncio.Event()

    async def spoil_my_record() -> None:
        begun.set()
        async with docket.redis() as redis:
            await redis.set(docket.keys.runs("broken"), "a string")

    async def spoilt() -> None: ...

    due = soon(milliseconds=100)
    await docket.add_many([docket.call("neighbour", when=due)(number) for number in range(10)])
    if state == "running":
        await docket.add(spoil_my_record, key="broken")()
    else:
        await docket.add(spoilt, key="broken", when=due if state == "scheduled" else None)()
        async with docket.redis() as redis:
            await redis.set(docket.keys.runs("broken"), "a string")
    await docket.add_many([docket.call("neighbour", when=due)(number) for number in range(10, 20)])
    await work_off(docket, 3)
    assert sorted(neighbours) == list(range(20))
    await forget(docket, "broken")


async def test_a_record_of_another_type_does_not_keep_the_work_of_a_dead_worker_from_being_handed_over(
    docket: Docket,
):
    ran: list[int] = []
    begun: set[int] = set()
    first = True

    async def body(number: int) -> None:
        begun.add(number)
        if first:
            await asyncio.sleep(60)
        ran.append(number)

    async with Worker(docket, drain_timeout=NO_TIME, concurrency=5) as worker:
        run = asyncio.create_task(worker.run_forever())
        for number in range(5):
            await docket.add(body, key=f"k{number}")(number)
        await until(lambda: len(begun) == 5)
        first = False
        async with docket.redis() as redis:
            await redis.set(docket.keys.runs("k2"), "a string")
            await redis.zadd(docket.keys.workers, {worker.worker_id: 1})
        worker.desks[0].keeper.close()
        await work_off(docket, 5, redelivery_timeout=SHORT)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
    assert sorted(ran) == [0, 1, 3, 4]
    await forget(docket, "k2")


async def test_a_record_of_another_type_does_not_disturb_a_worker_that_listens_anew(
    docket: Docket, neighbours: list[int]
):
    gate = Gate()
    docket.register(gate, names=["gate"])
    async with running(docket) as worker:
        await docket.add("gate", key="broken")()
        await gate.has_begun()
        async with docket.redis() as redis:
            await redis.set(docket.keys.runs("broken"), "a string")
            while not await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub"):
                await asyncio.sleep(0.002)
            await until(lambda: not docket.store.listener._confirmed)  # pyright: ignore[reportAttributeAccessIssue]
        await until(lambda: len(docket.store.listener._confirmed) >= 2)  # pyright: ignore[reportAttributeAccessIssue]
        await asyncio.sleep(0.05)
        await add_neighbours(docket, 0)
        await until(lambda: len(neighbours) == 10)
        gate.open.set()
        await until(lambda: not worker.claims)
    await forget(docket, "broken")


async def test_a_key_in_the_future_without_a_record_is_dropped(docket: Docket, neighbours: list[int]):
    async with docket.redis() as redis:
        await redis.zadd(docket.keys.queue, {b"nobody": 1, b"\xff\xfe": 2})
    await add_neighbours(docket, 0)
    await work_off(docket)
    assert len(neighbours) == 10
    await docket.purge_dead()


async def test_an_entry_whose_record_is_gone_is_dropped_when_its_worker_is_handed_over(docket: Docket):
    async with Worker(docket) as worker:
        await finish(worker)
    await docket.add("trace", key="k")("gone")
    async with docket.redis() as redis:
        await redis.execute_command(
            "XREADGROUP", "GROUP", "docket-workers", "ghost/1", "COUNT", 1, "STREAMS", docket.keys.stream, ">"
        )
        await redis.delete(docket.keys.runs("k"))
    await work_off(docket, 5, redelivery_timeout=SHORT)
    await docket.purge_dead()


# --- arguments -------------------------------------------------------------------------------------------------------


class LoadsElsewhere:
    """Its class can be pickled here and is missing on the worker."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (getattr, (sys, "there_is_no_such_thing"))


class Raises:
    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return (_raise, (self.error,))


def _raise(error: type[BaseException]) -> None:
    raise error


@pytest.mark.parametrize(
    "argument",
    [
        LoadsElsewhere(),
        Raises(ValueError),
        Raises(SystemExit),
        Raises(KeyboardInterrupt),
        Raises(GeneratorExit),
        Raises(asyncio.CancelledError),
        Raises(RecursionError),
        Raises(MemoryError),
    ],
    ids=lambda argument: argument.error.__name__ if isinstance(argument, Raises) else "AttributeError",
)
async def test_arguments_that_cannot_be_unpickled_are_a_dead_letter(
    docket: Docket, neighbours: list[int], argument: Any
):
    ran: list[Any] = []

    async def takes(value: Any, retry: Retry = Retry(attempts=3)) -> None:
        ran.append(value)

    await add_neighbours(docket, 0)
    execution = await docket.add(takes)(argument)
    await add_neighbours(docket, 10)
    await work_off(docket)
    assert sorted(neighbours) == list(range(20)) and not ran
    with pytest.raises(DeadLetter, match="argument"):
        await execution.get_result(timeout=LIMIT)
    assert [each.key for each in await docket.dead_letters()] == [execution.key]
    with pytest.raises(Exception, match=r"unpickled|argument"):
        _ = (await docket.dead_letters())[0].args
    assert await docket.purge_dead() == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"p",
        b"?what",
        b"pnot a pickle",
        b"p" + pickle.dumps("no arguments"),
        b"p" + pickle.dumps(((), [])),
        b"p" + pickle.dumps(((), {1: 2})),
    ],
    ids=["empty", "codec only", "unknown codec", "garbage", "a string", "a list", "keys that are no names"],
)
async def test_a_body_that_is_no_call_is_set_aside_or_fails(
    docket: Docket, neighbours: list[int], body: bytes
):
    execution = await docket.add("neighbour")(1)
    async with docket.redis() as redis:
        await redis.hset(docket.keys.runs(execution.key), "body", body)
    await add_neighbours(docket, 10)
    await work_off(docket)
    assert sorted(neighbours) == list(range(10, 20))
    with pytest.raises((DeadLetter, TypeError)):
        await execution.get_result(timeout=LIMIT)
    await docket.purge_dead()


async def test_five_megabytes_of_arguments_and_of_result_pass(docket: Docket):
    async def echo(value: bytes) -> bytes:
        return value[::-1]

    def echo_sync(value: bytes) -> bytes:
        return value[::-1]

    big = bytes(range(256)) * (5 * 4096)
    executions = [await docket.add(echo)(big), await docket.add(echo_sync)(big)]
    await work_off(docket)
    for execution in executions:
        assert await execution.get_result(timeout=LIMIT) == big[::-1]


# --- what tasks do ---------------------------------------------------------------------------------------------------


class CannotBePickled(Exception):
    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


class StrRaises(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class StrExits(Exception):
    def __str__(self) -> str:
        raise SystemExit(9)

    __repr__ = __str__


class OwnConstructor(Exception):
    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


RAISED: list[tuple[str, Any, type[BaseException]]] = [
    ("ValueError", lambda: ValueError("x"), ValueError),
    ("SystemExit", lambda: SystemExit(3), SystemExit),
    ("SystemExit without a code", lambda: SystemExit(), SystemExit),
    ("KeyboardInterrupt", lambda: KeyboardInterrupt(), KeyboardInterrupt),
    ("GeneratorExit", lambda: GeneratorExit(), GeneratorExit),
    ("CancelledError", lambda: asyncio.CancelledError("by itself"), ExecutionCancelled),
    ("StopIteration", lambda: StopIteration(1), RuntimeError),
    ("StopAsyncIteration", lambda: StopAsyncIteration(), Exception),
    ("BaseException", lambda: BaseException("base"), BaseException),
    ("an exception group", lambda: ExceptionGroup("g", [ValueError(1), KeyError(2)]), ExceptionGroup),
    ("a base exception group", lambda: BaseExceptionGroup("g", [SystemExit(1)]), BaseExceptionGroup),
    ("one that cannot be pickled", CannotBePickled, TaskFailed),
    ("one whose str raises", StrRaises, Exception),
    ("one whose str exits", StrExits, Exception),
    ("one with its own constructor", lambda: OwnConstructor(7, detail="d"), OwnConstructor),
    ("a lone surrogate", lambda: ValueError("\ud800 \udcff"), ValueError),
    ("a nul byte", lambda: ValueError("a\0b"), ValueError),
    ("a megabyte of text", lambda: ValueError("x" * (1 << 20)), ValueError),
    ("a multi-line text", lambda: ValueError('a\n"b"\r\n\t\\'), ValueError),
]


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize(("make", "seen"), [r[1:] for r in RAISED], ids=[r[0] for r in RAISED])
async def test_whatever_a_task_raises_only_that_task_fails(
    docket: Docket, neighbours: list[int], make: Any, seen: type[BaseException], kind: str
):
    async def raises() -> None:
        raise make()

    def raises_sync() -> None:
        raise make()

    await add_neighbours(docket, 0)
    execution = await docket.add(raises if kind == "async" else raises_sync)()
    await add_neighbours(docket, 10)
    await work_off(docket)
    assert sorted(neighbours) == list(range(20))
    with pytest.raises(seen):
        await execution.get_result(timeout=LIMIT)
    await execution.sync()
    assert execution.state == ("cancelled" if seen is ExecutionCancelled else "failed")
    assert execution.error and len(execution.error) < 10_000
    assert (await docket.snapshot()).total_tasks == 0


class PicklesBadly:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        raise self.error


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize("error", [TypeError("no"), RecursionError(), SystemExit(4), KeyboardInterrupt()])
async def test_a_result_that_cannot_be_pickled_fails_that_task_only_and_is_not_tried_again(
    docket: Docket, neighbours: list[int], error: BaseException, kind: str
):
    runs: list[int] = []

    async def returns(retry: Retry = Retry(attempts=3)) -> Any:
        runs.append(1)
        return PicklesBadly(error)

    def returns_sync(retry: Retry = Retry(attempts=3)) -> Any:
        runs.append(1)
        return PicklesBadly(error)

    execution = await docket.add(returns if kind == "async" else returns_sync)()
    await add_neighbours(docket, 0)
    await work_off(docket)
    assert sorted(neighbours) == list(range(10)) and runs == [1]
    with pytest.raises(TypeError, match="result"):
        await execution.get_result(timeout=LIMIT)


class BadRepr:
    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __repr__(self) -> str:
        raise self.error("no repr")

    def __len__(self) -> int:
        raise self.error("no length")


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
async def test_a_logged_argument_whose_repr_raises_is_shown_as_such(
    docket: Docket, caplog: pytest.LogCaptureFixture, error: type[BaseException]
):
    async def takes(
        value: Annotated[Any, Logged], length: Annotated[Any, Logged(length_only=True)], secret: str
    ) -> str:
        return "ran"

    caplog.set_level("INFO")
    execution = await docket.add(takes)(BadRepr(error), BadRepr(error), "hunter2")
    await work_off(docket)
    assert await execution.get_result(timeout=LIMIT) == "ran"
    assert f"repr raised {error.__name__}" in caplog.text
    assert "hunter2" not in caplog.text


async def test_an_unknown_task_waits_for_a_worker_that_knows_it(
    docket: Docket, docket_name: str, redis_url: str
):
    async with Docket(docket_name, redis_url) as other:
        execution = await other.add("appears later")(20)
        await work_off(docket)
        (dead,) = await docket.dead_letters()
        assert dead.key == execution.key and "appears later" in (dead.error or "")
        with pytest.raises(DeadLetter, match="appears later"):
            await execution.get_result(timeout=LIMIT)

        async def double(number: int) -> int:
            return 2 * number

        other.register(double, names=["appears later"])
        await work_off(other)
        assert await execution.get_result(timeout=LIMIT) == 40
        assert await docket.dead_letters() == []


async def test_an_unknown_task_goes_to_the_worker_beside_that_knows_it(
    docket: Docket, docket_name: str, redis_url: str
):
    async def double(number: int) -> int:
        return 2 * number

    async with Docket(docket_name, redis_url) as other:
        other.register(double)
        async with running(docket), running(other):
            executions = [await docket.add("double")(number) for number in range(20)]
            for number, execution in enumerate(executions):
                assert await execution.get_result(timeout=LIMIT) == 2 * number
    assert await docket.dead_letters() == []


async def test_a_worker_that_knows_a_task_is_not_starved_of_it_by_idle_ones_that_do_not(
    docket: Docket, docket_name: str, redis_url: str
):
    """As in a rolling deploy. What one that does not know it took back out of the line in the same breath, and put off
    until one and the same moment, the other one never saw."""
    count, ended = 60, asyncio.Event()
    states: list[str] = []

    async def last_of_many(number: int) -> None:
        if number == count - 1:
            ended.set()

    async with Docket(docket_name, redis_url) as other:
        other.register(last_of_many)
        async with running(docket), running(docket, name="as old"), running(other, concurrency=1):
            executions = await docket.add_many([docket.call("last_of_many")(n) for n in range(count)])

            async def listen() -> None:
                async for event in executions[-1].subscribe():
                    if event["type"] == "state":
                        states.append(event["state"])

            listening = asyncio.create_task(listen())
            for execution in executions:
                await execution.get_result(timeout=LIMIT)
            await listening
    assert ended.is_set()
    pairs = set(pairwise(states))
    assert ("queued", "queued") not in pairs or ("scheduled", "queued") in pairs, states


async def test_what_is_for_another_worker_holds_no_permit_meanwhile(
    docket: Docket, docket_name: str, redis_url: str
):
    """It was let in for a worker that does not know it, and is cancelled before the one that does is free."""
    ran: list[str] = []

    async def limited(
        name: str,
        at_once: ConcurrencyLimit = ConcurrencyLimit(max_concurrent=1),
        often: RateLimit = RateLimit(1, per=timedelta(milliseconds=300)),
    ) -> None:
        ran.append(name)

    async with Docket(docket_name, redis_url) as other:
        gate = Gate()
        other.register(gate, names=["gate"])
        other.register(limited)
        async with running(other, concurrency=1):
            await other.add("gate")("busy")
            await gate.has_begun()
            async with running(docket):
                async with docket.redis() as redis:
                    await other.add(limited, key="one")("one")
                    for _ in range(2):
                        # It knows its limits only now: from here on it comes with them, and is admitted in Redis.
                        async with asyncio.timeout(5):
                            while await redis.hget(docket.keys.runs("one"), "state") != b"scheduled":
                                await asyncio.sleep(0.005)
                    assert await redis.scard(docket.keys.concurrency("limited")) == 0
                await docket.cancel("one")
                gate.open.set()
                execution = await other.add(limited)("two")
                await execution.get_result(timeout=LIMIT)
    assert ran == ["two"]


async def test_what_a_running_worker_learns_is_told(docket: Docket, docket_name: str, redis_url: str):
    """To those who ask for its tasks, to those who add by name, and to what was set aside for want of it."""

    async def learnt(number: int) -> int:
        return 2 * number

    async with Docket(docket_name, redis_url) as other, running(docket):
        execution = await other.add("learnt")(20)
        with pytest.raises(DeadLetter):
            await execution.get_result(timeout=LIMIT)
        docket.register(learnt)
        async with asyncio.timeout(5):
            while not await other.task_workers("learnt"):
                await asyncio.sleep(0.05)
        assert await execution.get_result(timeout=LIMIT) == 40
        agenda = Agenda()
        agenda.add("learnt")(21)
        (scattered,) = await agenda.scatter(other, over=timedelta(milliseconds=1))
        assert await scattered.get_result(timeout=LIMIT) == 42


async def test_a_fallback_task_is_given_what_nobody_knows(docket: Docket):
    seen: list[Any] = []

    async def fallback(*args: Any, **kwargs: Any) -> str:
        seen.append((args, kwargs))
        return "taken care of"

    execution = await docket.add("unheard of")(1, two=2)
    await work_off(docket, fallback_task=fallback)
    assert seen == [((1,), {"two": 2})]
    assert await execution.get_result(timeout=LIMIT) == "taken care of"


async def test_a_task_called_wrongly_by_name_fails_with_a_type_error(
    docket: Docket, docket_name: str, redis_url: str
):
    async def takes_one(one: int) -> None: ...

    async with Docket(docket_name, redis_url) as stranger:
        execution = await stranger.add("takes_one")(1, 2, 3)
        docket.register(takes_one)
        await work_off(docket)
        with pytest.raises(TypeError):
            await execution.get_result(timeout=LIMIT)


async def test_a_class_that_only_the_client_knows_travels_with_the_call(docket: Docket):
    namespace: dict[str, Any] = {}
    exec("class Local:\n    def __init__(self, n): self.n = n", namespace)
    assert cloudpickle

    async def reads(value: Any) -> int:
        return value.n

    execution = await docket.add(reads)(namespace["Local"](5))
    await work_off(docket)
    assert await execution.get_result(timeout=LIMIT) == 5


async def test_a_retry_after_aeons_hurts_nobody(docket: Docket, neighbours: list[int]):
    async def patient(retry: Retry = Retry(attempts=2, delay=timedelta.max)) -> None:
        raise ValueError("later")

    await docket.add(patient, key="patient")()
    async with running(docket):
        await add_neighbours(docket, 0)
        await until(lambda: len(neighbours) == 10)
        await docket.snapshot()
    await docket.snapshot()
    await docket.get_execution("patient")
    await docket.clear()
    await docket.purge_dead()


async def test_a_generator_exit_of_a_sync_task_with_something_to_close_fails_that_task_only(
    docket: Docket, neighbours: list[int]
):
    closed: list[str] = []

    @asynccontextmanager
    async def connection() -> AsyncIterator[str]:
        try:
            yield "open"
        finally:
            await asyncio.sleep(0.01)
            closed.append("closed")

    def leaves(it: str = Depends(connection)) -> None:
        raise GeneratorExit

    execution = await docket.add(leaves)()
    await add_neighbours(docket, 0)
    await work_off(docket, 5, concurrency=1)
    assert len(neighbours) == 10 and closed == ["closed"]
    await execution.sync()
    assert execution.state == "failed"


async def test_an_exit_in_a_child_of_a_task_group_fails_that_task_only(docket: Docket, neighbours: list[int]):
    async def leaves() -> None:
        raise SystemExit(5)

    async def parent() -> None:
        await asyncio.gather(leaves())

    await docket.add(parent)()
    await add_neighbours(docket, 0)
    await work_off(docket)
    assert len(neighbours) == 10
