"""How an execution's end is waited for, and what comes of it."""

from __future__ import annotations

import asyncio
import enum
import json
import traceback
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis.exceptions

from docket import (
    CurrentDocket,
    DeadLetter,
    Docket,
    ExecutionCancelled,
    Perpetual,
    ResultUnavailable,
    TaskFailed,
    Worker,
    results,
)
from docket.errors import NaiveDatetime, RemoteTraceback
from docket.store.requests import SUBSCRIBED, Attempt, Commands, NextEvent
from docket.sync import Docket as BlockingDocket
from tests.runtime.support import Gate, finish, running, soon, work_off

LIMIT = timedelta(seconds=5)
AT_ONCE = timedelta(milliseconds=50)


class Refused(Exception):
    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code, self.reason = code, reason


class Slotted(Exception):
    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Lock(Exception):
    def __init__(self) -> None:
        super().__init__("holds what cannot be pickled")
        self.lock = asyncio.Lock.__dict__["acquire"].__get__(asyncio.Lock())
        self.frame = __import__("sys")._getframe()


class Local(enum.Enum):
    A = 1


ORDINARY: list[BaseException] = [
    ValueError("x"),
    KeyError("missing"),
    FileNotFoundError(2, "No such file or directory", "/tmp/x"),
    OSError(5, "I/O"),
    TimeoutError("the task's own"),
    ConnectionError("the task's own"),
    BrokenPipeError(32, "pipe"),
    redis.exceptions.ConnectionError("the task's own Redis"),
    redis.exceptions.TimeoutError("the task's own Redis"),
    redis.exceptions.ResponseError("WRONGTYPE"),
    StopAsyncIteration("x"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    Refused(7, reason="no"),
    Slotted(3),
    ExceptionGroup("g", [ValueError(1), KeyError("k")]),
    ResultUnavailable("raised by the task itself"),
]


@pytest.mark.parametrize(
    "error", ORDINARY, ids=lambda error: f"{type(error).__module__}.{type(error).__name__}"
)
async def test_an_exception_comes_back_as_itself(docket: Docket, error: BaseException):
    async def raises() -> None:
        raise error

    execution = await docket.add(raises)()
    await work_off(docket)
    with pytest.raises(type(error)) as caught:
        await execution.get_result(timeout=LIMIT)
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)
    assert repr(caught.value.args) == repr(error.args)
    for name, value in vars(error).items():
        if not isinstance(value, BaseException):
            assert getattr(caught.value, name) == value
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    shown = "".join(traceback.format_exception(caught.value))
    assert "in raises" in shown


async def test_an_exception_that_cannot_be_rebuilt_says_what_it_was(docket: Docket):
    async def raises() -> None:
        raise Lock()

    execution = await docket.add(raises)()
    await work_off(docket)
    with pytest.raises(TaskFailed) as caught:
        await execution.get_result(timeout=LIMIT)
    assert caught.value.type_name == "Lock"
    assert caught.value.message == "holds what cannot be pickled"
    assert "in raises" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    "value",
    [
        None,
        0,
        "",
        b"",
        False,
        (),
        {"a": [1, {2}]},
        datetime.now(UTC),
        Local.A,
        "\ud800",
        float("inf"),
        b"\0" * 10,
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_result_comes_back_as_it_was(docket: Docket, value: Any):
    async def returns() -> Any:
        return value

    execution = await docket.add(returns)()
    await work_off(docket)
    assert await execution.get_result(timeout=LIMIT) == value
    fetched = await docket.get_execution(execution.key)
    assert fetched and await fetched.get_result() == value


async def test_an_exception_may_be_a_result(docket: Docket):
    async def returns() -> Any:
        return ValueError("returned, not raised")

    execution = await docket.add(returns)()
    await work_off(docket)
    assert isinstance(await execution.get_result(timeout=LIMIT), ValueError)


async def test_a_timeout_is_a_timeout_error(docket: Docket):
    execution = await docket.add("trace", when=soon(seconds=60))("x")
    with pytest.raises(TimeoutError) as caught:
        await execution.get_result(timeout=AT_ONCE)
    assert type(caught.value) is TimeoutError
    with pytest.raises(TimeoutError) as caught:
        await execution.get_result(deadline=soon(milliseconds=50))
    assert type(caught.value) is TimeoutError
    await docket.clear()


@pytest.mark.parametrize("limit", [timedelta(0), timedelta(seconds=-1)])
async def test_a_limit_of_nothing_gives_what_is_there(docket: Docket, limit: timedelta):
    execution = await docket.add("trace")("x")
    with pytest.raises(TimeoutError):
        await execution.get_result(timeout=limit)
    with pytest.raises(TimeoutError):
        await execution.get_result(deadline=soon(seconds=-5))
    await work_off(docket)
    assert await execution.get_result(timeout=limit) is None
    assert await execution.get_result(deadline=soon(seconds=-5)) is None


async def test_timeout_and_deadline_together_are_refused(docket: Docket):
    execution = await docket.add("trace", key="k")("x")
    with pytest.raises(ValueError, match="timeout or deadline"):
        await execution.get_result(timeout=LIMIT, deadline=soon(seconds=1))
    await docket.clear()


async def test_a_naive_deadline_is_refused(docket: Docket):
    execution = await docket.add("trace", key="k")("x")
    with pytest.raises(NaiveDatetime, match="time zone"):
        await execution.get_result(deadline=datetime(2030, 1, 1))
    await docket.clear()


@pytest.mark.parametrize("limit", [{"timeout": 5}, {"deadline": "tomorrow"}, {"deadline": LIMIT}])
async def test_a_limit_that_is_none_is_refused_with_a_sentence(docket: Docket, limit: dict[str, Any]):
    execution = await docket.add("trace", key="k")("x")
    with pytest.raises(
        TypeError, match=r"expected (timeout to be a timedelta|deadline to be a datetime), got"
    ):
        await execution.get_result(**limit)
    await docket.clear()


async def test_an_endless_timeout_is_no_limit(docket: Docket):
    execution = await docket.add("trace")("x")
    waiting = asyncio.create_task(execution.get_result(timeout=timedelta.max))
    await work_off(docket)
    assert await asyncio.wait_for(waiting, 5) is None


async def test_a_cancelled_execution_says_so(docket: Docket):
    execution = await docket.add("trace", key="k")("x")
    waiting = asyncio.create_task(execution.get_result(timeout=LIMIT))
    await asyncio.sleep(0)
    await docket.cancel("k")
    with pytest.raises(ExecutionCancelled):
        await waiting
    with pytest.raises(ExecutionCancelled):
        await execution.get_result()


async def test_waiters_of_a_cleared_docket_are_told(docket: Docket):
    executions = [await docket.add("trace")("x"), await docket.add("trace", when=soon(seconds=60))("x")]
    waiting = [asyncio.create_task(each.get_result(timeout=LIMIT)) for each in executions]
    await asyncio.sleep(0.02)
    assert await docket.clear() == 2
    for each in waiting:
        with pytest.raises(ExecutionCancelled):
            await each


async def test_what_never_existed_or_has_expired_is_a_clear_error_at_once(docket: Docket):
    execution = await docket.add("trace", key="k")("x")
    async with docket.redis() as client:
        await client.delete(docket.keys.runs("k"), docket.keys.stream)
    with pytest.raises(ResultUnavailable, match="'k'"):
        await execution.get_result()


async def test_an_expired_result_is_a_clear_error(docket: Docket):
    async def returns() -> int:
        return 1

    execution = await docket.add(returns)()
    await work_off(docket)
    async with docket.redis() as client:
        await client.delete(docket.keys.results(execution.key))
    with pytest.raises(ResultUnavailable, match="expired"):
        await execution.get_result()


async def test_a_record_that_vanishes_while_it_is_waited_for_ends_the_wait(docket: Docket):
    """It ended in the reader's dead angle and expired before the reader was back: an event will not come."""
    execution = await docket.add("trace", key="k", when=soon(seconds=60))("x")
    waiting = asyncio.create_task(execution.get_result(timeout=LIMIT))
    while docket.keys.state_channel("k") not in docket.store.listener._confirmed:  # pyright: ignore[reportAttributeAccessIssue]
        await asyncio.sleep(0.002)
    async with docket.redis() as client:
        await client.delete(docket.keys.runs("k"), docket.keys.queue)
        await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    with pytest.raises(ResultUnavailable):
        await waiting


async def test_nothing_kept_is_a_clear_error_at_once(docket_name: str, redis_url: str):
    async with Docket(docket_name, redis_url, execution_ttl=timedelta(0)) as docket:
        execution = await docket.add("trace")("x")
        with pytest.raises(ResultUnavailable, match="execution_ttl=0"):
            await execution.get_result()
        await work_off(docket)
        with pytest.raises(ResultUnavailable, match="execution_ttl=0"):
            await execution.get_result()
        async with docket.redis() as client:
            left = [key async for key in client.scan_iter(f"{docket_name}:*")]
        assert {key for key in left if b":runs:" in key or b":results:" in key} == set()


async def test_nothing_kept_by_the_scheduler_is_a_clear_error_for_everybody(
    docket: Docket, docket_name: str, redis_url: str
):
    async with Docket(docket_name, redis_url, execution_ttl=timedelta(0)) as keeps_nothing:
        await keeps_nothing.add("trace", key="k")("x")
    execution = await docket.get_execution("k")
    assert execution is not None
    with pytest.raises(ResultUnavailable, match="execution_ttl=0"):
        await execution.get_result(timeout=LIMIT)
    await work_off(docket)


@pytest.mark.parametrize("end", ["completes", "fails", "is cancelled", "is retried", "is unknown"])
async def test_nothing_kept_leaves_nothing_whatever_the_end(docket_name: str, redis_url: str, end: str):
    from docket import Retry

    async def completes() -> bytes:
        return b"x" * 1000

    async def fails() -> None:
        raise ValueError("x")

    async def is_retried(retry: Retry = Retry(attempts=3)) -> None:
        raise ValueError("x")

    begun = asyncio.Event()

    async def is_cancelled() -> None:
        begun.set()
        await asyncio.sleep(60)

    tasks = {"completes": completes, "fails": fails, "is retried": is_retried, "is cancelled": is_cancelled}
    async with Docket(docket_name, redis_url, execution_ttl=timedelta(0)) as docket:
        if end == "is unknown":
            await docket.add("unheard of", key="k")()
        else:
            await docket.add(tasks[end], key="k")()
        async with running(docket) as worker:
            if end == "is cancelled":
                await begun.wait()
                await docket.cancel("k")
            await finish_beside(worker)
        await docket.purge_dead()
        async with docket.redis() as client:
            left = [key async for key in client.scan_iter(f"{docket_name}:*")]
    assert [key for key in left if key.endswith(b":k")] == []


async def finish_beside(worker: Worker) -> None:
    """Another worker returns when there is nothing left to do anywhere."""
    async with Worker(worker.docket, name="beside") as other:
        await finish(other)


async def test_the_waiter_of_a_replaced_execution_waits_for_its_successor(docket: Docket):
    gate = Gate()
    docket.register(gate, names=["gate"])
    async with running(docket):
        first = await docket.add("gate", key="k")("old")
        await gate.has_begun()
        waiting = asyncio.create_task(first.get_result(timeout=LIMIT))
        await docket.replace("gate", soon(milliseconds=30), "k")("new")
        gate.open.set()
        assert await waiting == "new"


async def test_a_hundred_waiters_of_one_execution_are_all_served(docket: Docket):
    gate = Gate()
    docket.register(gate, names=["gate"])
    async with running(docket):
        execution = await docket.add("gate")("x")
        waiting = [asyncio.create_task(execution.get_result(timeout=LIMIT)) for _ in range(100)]
        await gate.has_begun()
        gate.open.set()
        assert await asyncio.gather(*waiting) == ["x"] * 100


async def test_a_dead_letter_says_why(docket: Docket):
    execution = await docket.add("unheard of")()
    await work_off(docket)
    with pytest.raises(DeadLetter, match="unheard of"):
        await execution.get_result(timeout=LIMIT)
    await docket.purge_dead()
    with pytest.raises(ResultUnavailable):
        await execution.get_result(timeout=LIMIT)


async def test_the_blocking_client_raises_the_same(docket: Docket, docket_name: str, redis_url: str):
    errors = [FileNotFoundError(2, "No such file"), TimeoutError("own"), Refused(1, reason="r")]

    async def fails(number: int) -> None:
        raise errors[number]

    executions = [await docket.add(fails)(number) for number in range(len(errors))]
    later = await docket.add("trace", when=soon(seconds=60), key="later")("x")

    def ask() -> None:
        with BlockingDocket(docket_name, redis_url) as client:
            for execution, error in zip(executions, errors, strict=True):
                fetched = client.get_execution(execution.key)
                assert fetched is not None
                with pytest.raises(type(error)) as caught:
                    fetched.get_result(timeout=LIMIT)
                assert type(caught.value) is type(error) and str(caught.value) == str(error)
            fetched = client.get_execution(later.key)
            assert fetched is not None
            with pytest.raises(TimeoutError) as timed_out:
                fetched.get_result(timeout=AT_ONCE)
            assert type(timed_out.value) is TimeoutError
            with pytest.raises(ValueError, match="timeout or deadline"):
                fetched.get_result(timeout=LIMIT, deadline=soon(seconds=1))

    async with running(docket):
        for execution in executions:
            while execution.state != "failed":
                await execution.sync()
    await asyncio.to_thread(ask)
    await docket.clear()


async def test_an_error_that_looks_like_an_event_does_not_keep_a_waiter(docket: Docket):
    async def fails() -> None:
        raise ValueError('"completed_at":null')

    async with running(docket):
        execution = await docket.add(fails, key='","completed_at":null,"')()
        with pytest.raises(ValueError, match="completed_at"):
            await execution.get_result(timeout=LIMIT)


# --- a key that is used again before its waiter has looked ---------------------------------------------------------


async def quick(value: int) -> int:
    return value


async def fails(value: int) -> int:
    raise ValueError(value)


Deed = Callable[[Docket], Awaitable[Any]]


async def waited(docket: Docket, *deeds: Deed) -> Any:
    """What a waiter for `k` gets that hears of each deed only when it is done, and only then looks at the record."""
    async with docket.redis() as client:
        pubsub = client.pubsub(ignore_subscribe_messages=True)
        await pubsub.subscribe(docket.keys.state_channel("k"))
        await pubsub.get_message(timeout=5)
        left, heard = iter(deeds), [SUBSCRIBED]
        operation = results.wait(docket.keys, "k", None, kept=docket.execution_ttl)
        reply: Any = None
        try:
            while True:
                request = operation.send(reply)
                if isinstance(request, Attempt):
                    request = request.request
                if isinstance(request, Commands):
                    reply = await docket.store.ask(request)
                    continue
                assert isinstance(request, NextEvent)
                while not heard:
                    await next(left)(docket)
                    while message := await pubsub.get_message(timeout=0.05):
                        heard.append((message["channel"].decode(), message["data"]))
                reply = heard.pop(0)
        except StopIteration as stop:
            ended: results.Ended = stop.value
            return results.outcome_of(docket.core.door, ended.record, ended.stored)
        finally:
            await pubsub.aclose()


def cancel(docket: Docket) -> Awaitable[Any]:
    return docket.cancel("k")


def add_again(docket: Docket) -> Awaitable[Any]:
    return docket.add(quick, key="k")(2)


def add_for_later(docket: Docket) -> Awaitable[Any]:
    return docket.add(quick, key="k", when=soon(hours=1))(2)


def replace(docket: Docket) -> Awaitable[Any]:
    return docket.replace(quick, None, "k")(3)


def in_one_go(*deeds: Deed) -> Deed:
    async def do(docket: Docket) -> None:
        for deed in deeds:
            await deed(docket)

    return do


@pytest.mark.parametrize(
    "deeds",
    [
        (cancel, add_for_later),
        (cancel, add_again),
        (cancel, add_again, work_off),
        (cancel, replace, work_off),
    ],
)
async def test_a_cancelled_run_was_cancelled_whatever_its_key_is_used_for_next(
    docket: Docket, deeds: tuple[Deed, ...]
):
    await docket.add(quick, key="k", when=soon(hours=1))(1)
    with pytest.raises(ExecutionCancelled, match="'k' was cancelled"):
        await waited(docket, in_one_go(*deeds))
    await docket.clear()


@pytest.mark.parametrize("again", [add_again, add_for_later, replace])
async def test_a_result_that_is_gone_is_not_that_of_the_next_run(docket: Docket, again: Deed):
    await docket.add(quick, key="k")(1)
    with pytest.raises(ResultUnavailable, match="the key was used again"):
        await waited(docket, in_one_go(work_off, again))
    await docket.clear()


async def test_a_run_that_failed_has_failed_whatever_its_key_is_used_for_next(docket: Docket):
    await docket.add(fails, key="k")(1)
    with pytest.raises(TaskFailed, match="ValueError: 1"):
        await waited(docket, in_one_go(work_off, add_again, work_off))


async def test_what_replaces_a_run_is_waited_for_however_often_it_is_replaced(docket: Docket):
    await docket.add(quick, key="k", when=soon(hours=1))(1)
    assert await waited(docket, replace, in_one_go(replace, replace), work_off) == 3


async def test_the_end_of_what_replaced_a_run_is_its_end(docket: Docket):
    await docket.add(quick, key="k", when=soon(hours=1))(1)
    with pytest.raises(ResultUnavailable, match="the key was used again"):
        await waited(docket, replace, in_one_go(work_off, add_for_later))
    await docket.clear()


async def test_a_successor_is_waited_for(docket: Docket):
    """Of a perpetual task, and of an execution that adds its own key: none of them ends in between."""

    async def perpetual(turn: int, perpetual: Perpetual = Perpetual()) -> int:
        perpetual.perpetuate(turn + 1)
        if turn == 3:
            perpetual.cancel()
        return turn

    async def chain(link: int, docket: Docket = CurrentDocket()) -> int:
        if link < 3:
            await docket.add("chain", key="k")(link + 1)
        return link

    for task in (perpetual, chain):
        docket.register(task)
        await docket.add(task, key="k")(1)
        assert await waited(docket, work_off) == 3


async def test_a_dead_letter_that_is_retried_at_once_is_the_same_run(docket: Docket):
    await docket.add("quick", key="k")(1)

    def retry(docket: Docket) -> Awaitable[Any]:
        docket.register(quick)
        return docket.retry_dead("k")

    assert await waited(docket, in_one_go(work_off, retry), work_off) == 1


async def test_what_is_told_late_of_an_earlier_run_is_not_this_ones_end(docket: Docket):
    """Events come over another connection than the record: one may be on its way when the next run is waited for."""
    await docket.add(quick, key="k", when=soon(hours=1))(1)
    late = {"type": "state", "key": "k", "state": "cancelled", "completed_at": "2020-01-01T00:00:00.000000Z"}

    async def tell(docket: Docket) -> None:
        async with docket.redis() as client:
            await client.publish(docket.keys.state_channel("k"), json.dumps(late | {"error": None}))

    assert await waited(docket, in_one_go(replace, tell), work_off) == 3


@pytest.mark.parametrize(
    "said", ["", "[]", "{}", "null", '{"type":"state","state":"gone"}', '{"type":"x"}', "\xff"]
)
async def test_what_is_no_event_does_not_disturb_a_waiter(docket: Docket, said: str):
    async def tell(docket: Docket) -> None:
        async with docket.redis() as client:
            await client.publish(docket.keys.state_channel("k"), said.encode("latin-1"))

    await docket.add(quick, key="k")(1)
    assert await waited(docket, tell, work_off) == 1


@pytest.mark.parametrize("skin", ["async", "sync"])
async def test_waiters_of_either_kind_are_told_of_the_cancellation(
    docket: Docket, docket_name: str, redis_url: str, skin: str
):
    def wait_in_a_thread() -> Any:
        with BlockingDocket(docket_name, redis_url) as blocking:
            found = blocking.get_execution("k")
            assert found is not None
            return found.get_result(timeout=LIMIT)

    gate = Gate()
    docket.register(gate, names=["gate"])
    async with running(docket), docket.redis() as client:
        for _ in range(5):
            execution = await docket.add("gate", key="k")("x")
            await gate.has_begun()
            waiting = asyncio.create_task(
                execution.get_result(timeout=LIMIT)
                if skin == "async"
                else asyncio.to_thread(wait_in_a_thread)
            )
            channel = docket.keys.state_channel("k")
            heard: Any = [channel, 0]
            while heard[1] == 0:
                heard = await client.execute_command("PUBSUB", "NUMSUB", channel)
            await asyncio.gather(docket.cancel("k"), add_for_later(docket))
            with pytest.raises(ExecutionCancelled):
                await waiting
            await docket.cancel("k")
