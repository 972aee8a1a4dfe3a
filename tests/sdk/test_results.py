"""How an execution's end is waited for, and what comes of it."""

from __future__ import annotations

import asyncio
import enum
import traceback
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis.exceptions

from docket import DeadLetter, Docket, ExecutionCancelled, ResultUnavailable, TaskFailed, Worker
from docket.errors import NaiveDatetime, RemoteTraceback
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
