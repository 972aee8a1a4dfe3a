"""Dependencies are opened before a body and closed after it, whatever happens in between."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Annotated, Any

import pytest

from docket import (
    CallArgument,
    CurrentDocket,
    CurrentExecution,
    CurrentWorker,
    Depends,
    Docket,
    Execution,
    ExecutionCancelled,
    ExecutionState,
    Progress,
    Retry,
    Shared,
    TaskArgument,
    TaskKey,
    Timeout,
    Worker,
    clock,
    sync,
)
from docket.dependencies import Dependency, current_docket, current_execution, current_worker
from docket.progress import ExecutionProgress
from tests.runtime.support import Gate, running, until, work_off

MOMENT = timedelta(milliseconds=100)
LIMIT = timedelta(seconds=5)


class Opened:
    """Context managers of both kinds that note when they are opened and closed, and how the body ended."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def asynchronous(self, name: str) -> Callable[[], Any]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[str]:
            with self._noted(name):
                yield name

        return opened

    def synchronous(self, name: str) -> Callable[[], Any]:
        @contextmanager
        def opened() -> Iterator[str]:
            with self._noted(name):
                yield name

        return opened

    @contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        self.events.append(f"open {name}")
        try:
            yield
        except BaseException as error:
            self.events.append(f"{name} saw {type(error).__name__}")
            raise
        finally:
            self.events.append(f"close {name}")


class AsyncResource:
    """Neither a function nor a generator: a class with its own two methods."""

    entered_in: str = ""
    left_in: str = ""

    async def __aenter__(self) -> AsyncResource:
        self.entered_in = threading.current_thread().name
        return self

    async def __aexit__(self, *error: object) -> None:
        self.left_in = threading.current_thread().name


@pytest.fixture
def opened() -> Opened:
    return Opened()


# --- what a function may return -------------------------------------------------------------------------------------


async def test_what_a_coroutine_returns_is_given_as_it_is(docket: Docket):
    """Not entered even if it could be: an `asyncio.Lock` is not to be locked by asking for it."""

    async def lock() -> asyncio.Lock:
        return asyncio.Lock()

    async def task(lock: asyncio.Lock = Depends(lock)) -> bool:
        return lock.locked()

    execution = await docket.add(task)()
    await work_off(docket)
    assert await execution.get_result() is False


async def test_what_can_be_entered_and_awaited_is_entered(docket: Docket):
    """A connection pool of many a library is both: awaited it would never be closed."""
    closed: list[str] = []

    class Pool:
        def __await__(self) -> Any:
            raise AssertionError("awaited")

        async def __aenter__(self) -> str:
            return "a pool"

        async def __aexit__(self, *error: object) -> None:
            closed.append("pool")

    async def task(pool: Any = Depends(Pool)) -> str:
        return pool

    execution = await docket.add(task)()
    await work_off(docket)
    assert await execution.get_result() == "a pool" and closed == ["pool"]


@pytest.mark.parametrize("seen_before", [True, False], ids=["a class", "hidden in a function"])
async def test_what_is_asynchronous_is_opened_and_closed_on_the_loop_for_a_sync_task_too(
    seen_before: bool, docket: Docket
):
    resources: list[AsyncResource] = []

    class Resource(AsyncResource):
        def __init__(self) -> None:
            resources.append(self)

    def hidden() -> Resource:
        return Resource()

    def task(resource: Any = Depends(Resource if seen_before else hidden)) -> tuple[str, str]:
        return type(resource).__name__, resource.left_in

    execution = await docket.add(task)()
    await work_off(docket)
    assert await execution.get_result() == ("Resource", ""), "it was open"
    (resource,) = resources
    assert resource.entered_in == resource.left_in == threading.main_thread().name


async def test_a_plain_function_may_return_something_to_await_in_a_sync_task(docket: Docket):
    async def answer() -> int:
        return 42

    def task(number: Any = Depends(lambda: answer())) -> int:
        return number

    execution = await docket.add(task)()
    await work_off(docket)
    assert await execution.get_result() == 42


async def test_a_dependency_with_other_bindings_is_another_one(docket: Docket):
    made: list[str] = []

    def client(host: str) -> str:
        made.append(host)
        return f"client of {host}"

    async def task(
        a: str = Depends(client, host="a"),
        b: str = Depends(client, host="b"),
        again: str = Depends(client, host="a"),
    ) -> tuple[str, str, str]:
        return a, b, again

    execution = await docket.add(task)()
    await work_off(docket)
    assert await execution.get_result() == ("client of a", "client of b", "client of a")
    assert made == ["a", "b"]


# --- how it ends ----------------------------------------------------------------------------------------------------


async def test_everything_is_closed_in_reverse_order_when_the_body_is_cancelled(
    docket: Docket, opened: Opened
):
    gate = Gate()

    async def task(
        a: str = Depends(opened.asynchronous("a")),
        b: str = Depends(opened.synchronous("b")),
        c: str = Depends(opened.asynchronous("c")),
    ) -> None:
        gate.begun.set()
        await asyncio.sleep(30)

    async with running(docket):
        execution = await docket.add(task)()
        await until(gate.begun.is_set)
        await docket.cancel(execution.key)
        with pytest.raises(ExecutionCancelled):
            await execution.get_result(timeout=timedelta(seconds=5))
        await until(lambda: "close a" in opened.events)
    assert opened.events == [
        *("open a", "open b", "open c"),
        *(
            "c saw CancelledError",
            "close c",
            "b saw CancelledError",
            "close b",
            "a saw CancelledError",
            "close a",
        ),
    ]


async def test_for_a_sync_task_the_thread_closes_first_and_the_loop_after_it(docket: Docket, opened: Opened):
    begun = threading.Event()

    def task(
        here: str = Depends(opened.synchronous("thread 1")),
        there: str = Depends(opened.asynchronous("loop")),
        again: str = Depends(opened.synchronous("thread 2")),
    ) -> None:
        begun.set()
        while True:
            threading.Event().wait(0.005)

    async with running(docket):
        execution = await docket.add(task)()
        await until(begun.is_set)
        await docket.cancel(execution.key)
        await until(lambda: "close loop" in opened.events)
    assert [event for event in opened.events if "saw" not in event] == [
        *("open loop", "open thread 1", "open thread 2"),
        *("close thread 2", "close thread 1", "close loop"),
    ]
    assert [event for event in opened.events if "saw" in event] == [
        f"{name} saw TaskInterrupted" for name in ("thread 2", "thread 1", "loop")
    ]


async def test_everything_is_closed_when_the_time_is_up(docket: Docket, opened: Opened):
    async def task(
        a: str = Depends(opened.asynchronous("a")),
        b: str = Depends(opened.synchronous("b")),
        timeout: Timeout = Timeout(MOMENT),
    ) -> None:
        await asyncio.sleep(30)

    execution = await docket.add(task)()
    await work_off(docket)
    with pytest.raises(TimeoutError):
        await execution.get_result()
    assert opened.events[-1] == "close a" and opened.events.index("close b") < opened.events.index("close a")


async def test_what_a_thread_closes_is_not_torn_apart_by_a_cancellation(docket: Docket):
    events: list[str] = []
    closing, cancelled = threading.Event(), threading.Event()

    @contextmanager
    def connection() -> Iterator[None]:
        yield
        closing.set()
        assert cancelled.wait(5)
        for i in range(1000):  # at the next instruction it would be
            events.append(str(i))
        events.append("closed")

    def task(connection: None = Depends(connection)) -> None: ...

    async with running(docket) as worker:
        execution = await docket.add(task)()
        await until(closing.is_set)
        await docket.cancel(execution.key)
        await until(lambda: all(flight.stopped for flight in worker.claims))
        cancelled.set()
        await until(lambda: not worker.claims)
    assert events[-1] == "closed"


async def test_opening_and_closing_in_the_thread_does_not_count_as_time_of_the_task(docket: Docket):
    @contextmanager
    def slow() -> Iterator[None]:
        threading.Event().wait(0.15)
        yield
        threading.Event().wait(0.15)

    def task(slow: None = Depends(slow), timeout: Timeout = Timeout(MOMENT)) -> str:
        return "in time"

    execution = await docket.add(task)()
    await work_off(docket)
    assert await execution.get_result() == "in time"


@pytest.mark.parametrize("plain", [False, True], ids=["async", "sync"])
async def test_what_was_open_is_closed_when_another_dependency_fails(
    plain: bool, docket: Docket, opened: Opened
):
    ran: list[str] = []

    def broken() -> None:
        raise RuntimeError("no database")

    async def coroutine(
        a: str = Depends(opened.synchronous("a")), b: None = Depends(broken), c: None = Depends(broken)
    ) -> None:
        ran.append("body")

    def function(
        a: str = Depends(opened.synchronous("a")), b: None = Depends(broken), c: None = Depends(broken)
    ) -> None:
        ran.append("body")

    execution = await docket.add(function if plain else coroutine)()
    await work_off(docket)
    with pytest.raises(ExceptionGroup) as failure:
        await execution.get_result()
    assert failure.value.message == "Failed to resolve dependencies for parameter(s): b, c"
    assert [str(error) for error in failure.value.exceptions] == ["no database"] * 2
    assert opened.events == ["open a", "a saw ExceptionGroup", "close a"] and ran == []


@pytest.mark.parametrize("plain", [False, True], ids=["async", "sync"])
async def test_a_dependency_that_swallows_everything_cannot_complete_what_never_ran(
    plain: bool, docket: Docket
):
    @contextmanager
    def swallowing() -> Iterator[None]:
        try:
            yield
        except Exception:
            pass

    def broken() -> None:
        raise RuntimeError("no database")

    async def coroutine(a: None = Depends(swallowing), b: None = Depends(broken)) -> None: ...

    def function(a: None = Depends(swallowing), b: None = Depends(broken)) -> None: ...

    execution = await docket.add(function if plain else coroutine)()
    await work_off(docket)
    await execution.sync()
    assert execution.state is ExecutionState.FAILED
    with pytest.raises(ExceptionGroup, match=r"parameter.*b"):
        await execution.get_result()


async def test_a_failure_of_the_body_may_be_swallowed(docket: Docket):
    @contextmanager
    def swallowing() -> Iterator[None]:
        try:
            yield
        except ValueError:
            pass

    async def coroutine(a: None = Depends(swallowing)) -> None:
        raise ValueError

    def function(a: None = Depends(swallowing)) -> None:
        raise ValueError

    executions = [await docket.add(coroutine)(), await docket.add(function)()]
    await work_off(docket)
    assert [await execution.get_result() for execution in executions] == [None, None]


@pytest.mark.parametrize("plain", [False, True], ids=["async", "sync"])
async def test_a_failure_while_closing_fails_the_task_and_nothing_else(
    plain: bool, docket: Docket, opened: Opened
):
    @contextmanager
    def commits() -> Iterator[None]:
        yield
        raise OSError("could not commit")

    async def coroutine(a: str = Depends(opened.synchronous("a")), b: None = Depends(commits)) -> None: ...

    def function(a: str = Depends(opened.synchronous("a")), b: None = Depends(commits)) -> None: ...

    failing = await docket.add(function if plain else coroutine)()
    await work_off(docket)
    with pytest.raises(OSError, match="could not commit"):
        await failing.get_result()
    assert opened.events == ["open a", "a saw OSError", "close a"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()], ids=repr)
@pytest.mark.parametrize("ask", [Depends, Shared])
async def test_whatever_a_dependency_raises_only_its_task_ends_by_it(
    ask: Callable[..., Any], error: BaseException, docket: Docket
):
    def broken() -> None:
        raise error

    async def task(broken: None = ask(broken)) -> None: ...

    async def other() -> str:
        return "fine"

    execution, fine = await docket.add(task)(), await docket.add(other)()
    await work_off(docket)
    await execution.sync()
    assert execution.state in (ExecutionState.FAILED, ExecutionState.CANCELLED)
    assert await fine.get_result() == "fine"


# --- shared by all --------------------------------------------------------------------------------------------------


async def test_a_shared_value_is_made_once_however_many_ask_at_once(docket: Docket):
    made: list[int] = []

    async def pool() -> AsyncIterator[int]:
        made.append(1)
        await asyncio.sleep(0.02)
        yield len(made)

    async def task(pool: int = Shared(pool)) -> int:
        return pool

    def plain(pool: int = Shared(pool)) -> int:
        return pool

    executions = await docket.add_many([docket.call(each)() for each in (task, plain) for _ in range(10)])
    await work_off(docket, concurrency=20)
    assert [await execution.get_result() for execution in executions] == [1] * 20


async def test_a_value_that_is_shared_is_shared_beneath_what_a_thread_opens_too(
    docket: Docket, opened: Opened
):
    pool = opened.asynchronous("pool")

    def repository(pool: str = Shared(pool)) -> str:
        return pool

    def of_a_thread(one: str = Depends(repository), other: str = Shared(pool)) -> tuple[str, str]:
        return one, other

    async def of_the_loop(one: str = Depends(repository)) -> str:
        return one

    executions = [await docket.add(task)() for task in (of_a_thread, of_the_loop, of_a_thread)]
    await work_off(docket, dependencies=[Depends(repository)])
    assert [await each.get_result() for each in executions] == [("pool",) * 2, "pool", ("pool",) * 2]
    assert opened.events == ["open pool", "close pool"]


async def test_what_is_shared_is_not_what_an_execution_has_of_its_own(docket: Docket, opened: Opened):
    pool = opened.asynchronous("pool")

    def both(shared: str = Shared(pool), own: str = Depends(pool)) -> None:
        opened.events.append("body")

    def task(nothing: None = Depends(both)) -> None: ...

    await docket.add(task)()
    await work_off(docket)
    assert opened.events == ["open pool", "open pool", "body", "close pool", "close pool"]


async def test_shared_values_are_closed_in_reverse_order_when_the_worker_ends(docket: Docket, opened: Opened):
    @asynccontextmanager
    async def session(pool: str = Shared(opened.asynchronous("pool"))) -> AsyncIterator[str]:
        opened.events.append(f"session on {pool}")
        yield "session"
        opened.events.append("close session")

    async def task(session: str = Shared(session)) -> None:
        opened.events.append("body")

    await docket.add(task)()
    await work_off(docket)
    assert opened.events == ["open pool", "session on pool", "body", "close session", "close pool"]


async def test_a_shared_value_that_cannot_be_made_is_tried_again_by_the_next(docket: Docket):
    attempts: list[int] = []

    async def pool() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            raise ConnectionError("not yet")
        return "pool"

    async def task(pool: str = Shared(pool), retry: Retry = Retry(attempts=2)) -> str:
        return pool

    execution = await docket.add(task)()
    await work_off(docket)
    assert await execution.get_result() == "pool" and len(attempts) == 2


async def test_a_cancelled_first_asker_does_not_take_the_shared_value_from_the_others(docket: Docket):
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def pool() -> str:
        asked.set()
        await go_on.wait()
        return "pool"

    async def task(pool: str = Shared(pool)) -> str:
        return pool

    async with running(docket):
        first, second = await docket.add(task)(), await docket.add(task)()
        await asyncio.wait_for(asked.wait(), 5)
        await docket.cancel(first.key)
        with pytest.raises(ExecutionCancelled):
            await first.get_result(timeout=timedelta(seconds=5))
        go_on.set()
        assert await second.get_result(timeout=timedelta(seconds=5)) == "pool"


async def test_a_shared_value_that_fails_in_the_background_is_made_again(
    docket: Docket, caplog: pytest.LogCaptureFixture
):
    """As whatever holds a task group does: it ends the task that opened it, which is the keeper of all of them."""
    clients: list[dict[str, bool]] = []
    break_it = asyncio.Event()

    async def listening() -> None:
        await break_it.wait()
        raise OSError("the line is dead")

    @asynccontextmanager
    async def connected() -> AsyncIterator[dict[str, bool]]:
        client = {"open": True}
        clients.append(client)
        try:
            async with asyncio.TaskGroup() as group:
                child = group.create_task(listening())
                yield client
                child.cancel()
        finally:
            client["open"] = False

    def other() -> str:
        return "other"

    async def task(client: dict[str, bool] = Shared(connected)) -> bool:
        return client["open"]

    async def needs_another(other: str = Shared(other)) -> str:
        return other

    async with running(docket):
        assert await (await docket.add(task)()).get_result(timeout=LIMIT)
        break_it.set()
        await until(lambda: not clients[0]["open"])
        break_it.clear()
        assert await (await docket.add(task)()).get_result(timeout=LIMIT)
        assert await (await docket.add(needs_another)()).get_result(timeout=LIMIT) == "other"
    assert [client["open"] for client in clients] == [False, False]
    assert (
        caplog.text.count("a shared value failed in the background") == 1
        and "the line is dead" in caplog.text
    )


async def test_a_shared_value_that_is_being_made_as_another_fails_is_no_ones_for_ever(docket: Docket):
    break_it, never = asyncio.Event(), asyncio.Event()

    async def listening() -> None:
        await break_it.wait()
        raise OSError("the line is dead")

    @asynccontextmanager
    async def connected() -> AsyncIterator[str]:
        async with asyncio.TaskGroup() as group:
            child = group.create_task(listening())
            yield "client"
            child.cancel()

    made: list[int] = []

    async def slow() -> str:
        made.append(1)
        if len(made) == 1:
            await never.wait()
        return "slow"

    async def task(client: str = Shared(connected)) -> None: ...
    async def waits(slow: str = Shared(slow)) -> str:
        return slow

    async with running(docket):
        await (await docket.add(task)()).get_result(timeout=LIMIT)
        first = await docket.add(waits)()
        await until(lambda: made)
        break_it.set()
        with pytest.raises(ExceptionGroup) as failed:
            await first.get_result(timeout=LIMIT)
        assert "another shared value failed in the background meanwhile" in str(failed.value.exceptions[0])
        assert await (await docket.add(waits)()).get_result(timeout=LIMIT) == "slow"


# --- around every task ----------------------------------------------------------------------------------------------


async def test_sync_managers_around_every_task_are_entered_in_the_thread_of_a_sync_task(docket: Docket):
    threads: list[str] = []

    @contextmanager
    def hook() -> Iterator[None]:
        threads.append(threading.current_thread().name)
        yield
        threads.append(threading.current_thread().name)

    def plain() -> None:
        threads.append(threading.current_thread().name)

    async def coroutine() -> None:
        threads.append(threading.current_thread().name)

    await docket.add(plain)()
    await work_off(docket, dependencies=[Depends(hook)])
    assert len(set(threads)) == 1 and threads[0] != threading.main_thread().name
    threads.clear()
    await docket.add(coroutine)()
    await work_off(docket, dependencies=[Depends(hook)])
    assert threads == [threading.main_thread().name] * 3


@pytest.mark.parametrize("plain", [False, True], ids=["async", "sync"])
async def test_what_fails_around_a_task_fails_the_task(plain: bool, docket: Docket):
    def broken() -> None:
        raise RuntimeError("no tracing")

    def function() -> None: ...

    async def coroutine() -> None: ...

    execution = await docket.add(function if plain else coroutine)()
    await work_off(docket, dependencies={"tracing": Depends(broken)})
    with pytest.raises(ExceptionGroup, match=r"parameter.*tracing"):
        await execution.get_result()


async def test_a_task_whose_worker_states_the_same_fails_with_both_names(docket: Docket):
    async def task(mine: Retry = Retry(attempts=2)) -> None: ...

    async def other() -> str:
        return "tried again by the worker's own statement"

    execution, fine = await docket.add(task)(), await docket.add(other)()
    await work_off(docket, dependencies={"everybody": Retry(attempts=3)})
    with pytest.raises(ValueError, match=r"Only one Retry.*'everybody' and 'mine'"):
        await execution.get_result()
    assert await fine.get_result()


async def test_a_dependency_of_the_users_own_is_entered_around_each_run(docket: Docket):
    events: list[str] = []

    class Traced(Dependency):
        async def __aenter__(self) -> str:
            events.append(f"enter {self.execution.get().key}")
            return self.docket.get().name

        async def __aexit__(self, *error: object) -> None:
            events.append("leave")

    async def task(name: Any = Traced()) -> str:
        return name

    execution = await docket.add(task, key="k")()
    await work_off(docket)
    assert await execution.get_result() == docket.name
    assert events == ["enter k", "leave"]


async def test_a_class_of_dependencies_has_its_own_lifecycle_around_each_run(docket: Docket):
    events: list[str] = []

    class Counted(Dependency):
        @classmethod
        @asynccontextmanager
        async def worker_lifecycle(cls, docket: Docket, worker: Worker) -> AsyncIterator[None]:
            events.append(f"begin {docket.name} {worker.name}")
            try:
                yield
            finally:
                events.append("end")

        async def __aenter__(self) -> int:
            return len(events)

        async def __aexit__(self, *error: object) -> None:
            events.append("left")

    def beneath(counted: Any = Counted()) -> int:
        return counted

    async def task(counted: Any = Counted(), same: int = Depends(beneath)) -> int:
        return counted

    execution = await docket.add(task)()
    begun = f"begin {docket.name} here"
    await work_off(docket, name="here")
    assert await execution.get_result() == 1
    assert events == [begun, "left", "left", "end"]
    await work_off(docket, name="here")
    assert events[4:] == [begun, "end"]


async def test_a_lifecycle_that_cannot_begin_ends_the_run(docket: Docket):
    class Broken(Dependency):
        @classmethod
        @asynccontextmanager
        async def worker_lifecycle(cls, docket: Docket, worker: Worker) -> AsyncIterator[None]:
            raise ValueError("cannot begin")
            yield

    async def task(broken: Any = Broken()) -> None: ...

    docket.register(task)
    with pytest.raises(ValueError, match="cannot begin"):
        await work_off(docket)
    assert await docket.workers() == []


async def test_what_follows_arguments_without_names_is_injected(docket: Docket):
    async def task(first: int, *rest: int, key: str = TaskKey()) -> tuple[int, tuple[int, ...], str]:
        return first, rest, key

    async def opened(first: int, *rest: int, key: str = Depends(lambda: "k")) -> str:
        return key

    execution = await docket.add(task, key="k")(1, 2, 3)
    other = await docket.add(opened)(1, 2, 3)
    await work_off(docket)
    assert await execution.get_result() == (1, (2, 3), "k")
    assert await other.get_result() == "k"


def test_what_is_no_dependency_is_refused_around_every_task():
    docket = Docket()
    with pytest.raises(
        TypeError, match=r"expected dependencies such as Depends\(\.\.\.\) around every task, got 5"
    ):
        Worker(docket, dependencies=[5])
    with pytest.raises(ValueError, match="not to begin with __, got '__x'"):
        Worker(docket, dependencies={"__x": Retry()})


# --- surroundings ---------------------------------------------------------------------------------------------------


async def test_context_variables_are_visible_in_sync_tasks_and_their_dependencies(docket: Docket):
    def of_the_dependency() -> str:
        return current_execution.get().key

    def task(key: str = Depends(of_the_dependency)) -> tuple[str, str, str, str]:
        return key, current_execution.get().key, current_docket.get().name, current_worker.get().name

    execution = await docket.add(task, key="k")()
    await work_off(docket, name="here")
    assert await execution.get_result() == ("k", "k", docket.name, "here")


async def test_what_a_sync_task_and_its_dependencies_are_given_needs_no_await(docket: Docket):
    def dependency(
        docket: sync.Docket = CurrentDocket(), progress: sync.ExecutionProgress = Progress()
    ) -> list[sync.Docket]:
        progress.increment(3)
        return [docket]  # as it is, it would be entered, and it is open

    def task(
        mine: sync.Docket = CurrentDocket(),
        worker: Worker = CurrentWorker(),
        execution: sync.Execution = CurrentExecution(),
        progress: sync.ExecutionProgress = Progress(),
        key: str = TaskKey(),
        its: list[sync.Docket] = Depends(dependency),
    ) -> None:
        assert type(mine) is type(its[0]) is sync.Docket and type(execution) is sync.Execution
        assert isinstance(worker, Worker) and worker.docket is docket
        progress.sync()
        assert progress.current == 3
        execution.sync()
        assert execution.state is ExecutionState.RUNNING and execution.key == key
        follower = its[0].add(sync_other, key="another")(key)
        assert follower.disposition == "scheduled"

    def sync_other(key: str) -> str:
        return key

    execution = await docket.add(task, key="k")()
    await work_off(docket)
    assert await execution.get_result() is None
    other = await docket.get_execution("another")
    assert other is not None and await other.get_result() == "k"


async def test_what_is_opened_on_the_loop_is_given_what_is_to_be_awaited_for_a_sync_task_too(docket: Docket):
    async def on_the_loop(
        docket: Docket = CurrentDocket(),
        execution: Execution = CurrentExecution(),
        progress: ExecutionProgress = Progress(),
    ) -> str:
        await progress.increment(3)
        await execution.sync()
        return (await docket.add(noted)(execution.state)).key

    async def noted(state: str) -> str:
        return state

    @asynccontextmanager
    async def client(docket: Docket = CurrentDocket()) -> AsyncIterator[type]:
        yield type(docket)

    def in_the_thread(
        key: str = Depends(on_the_loop), docket: sync.Docket = CurrentDocket()
    ) -> tuple[str, type]:
        return key, type(docket)

    def task(
        docket: sync.Docket = CurrentDocket(),
        given: tuple[str, type] = Depends(in_the_thread),
        key: str = Depends(on_the_loop),
        shared: type = Shared(client),
    ) -> tuple[type, tuple[str, type], str, type]:
        return type(docket), given, key, shared

    execution = await docket.add(task)()
    await work_off(docket)
    own, (key, of_the_dependency), same, shared = await execution.get_result()
    assert own is of_the_dependency is sync.Docket and shared is Docket
    assert key == same, "called once for each execution"
    other = await docket.get_execution(key)
    assert other is not None and await other.get_result() == "running"


async def test_whatever_can_stand_in_a_task_can_stand_beneath_what_a_thread_opens(docket: Docket):
    """What is no function is opened on the loop, before the thread needs it, and once for each execution."""
    events: list[str] = []

    class Span(Dependency):
        async def __aenter__(self) -> str:
            events.append("enter")
            return "span"

        async def __aexit__(self, *error: object) -> None:
            events.append("leave")

    def limited(span: Any = Span(), timeout: Timeout = Timeout(MOMENT)) -> tuple[str, Timeout]:
        return span, timeout

    def task(
        one: tuple[str, Timeout] = Depends(limited), other: tuple[str, Timeout] = Depends(limited)
    ) -> str:
        span, timeout = one
        assert other is one and timeout.remaining() <= MOMENT
        events.append("body")
        return span

    def too_long(given: tuple[str, Timeout] = Depends(limited)) -> None:
        until = clock.monotonic() + 5
        while clock.monotonic() < until:
            time.sleep(0.005)

    execution = await docket.add(task)()
    await work_off(docket)
    assert await execution.get_result() == "span"
    assert events == ["enter", "body", "leave"]
    late = await docket.add(too_long)()
    await work_off(docket)
    with pytest.raises(TimeoutError):
        await late.get_result()
    assert events[3:] == ["enter", "leave"]


async def test_all_dependencies_that_fail_are_told_for_a_sync_task_too(docket: Docket):
    async def of_the_loop() -> None:
        raise ValueError("on the loop")

    def of_the_thread() -> None:
        raise KeyError("in the thread")

    def task(
        x: None = Depends(of_the_loop), y: None = Depends(of_the_thread), z: int = Depends(lambda: 1)
    ) -> None:
        raise AssertionError("it must not begin")

    execution = await docket.add(task)()
    await work_off(docket)
    with pytest.raises(ExceptionGroup, match=r"parameter\(s\): x, y") as failure:
        await execution.get_result()
    assert [type(each) for each in failure.value.exceptions] == [ValueError, KeyError]


async def test_nobody_deals_with_the_error_of_a_body_that_could_not_begin_in_its_thread(docket: Docket):
    @asynccontextmanager
    async def swallows() -> AsyncIterator[None]:
        try:
            yield
        except Exception:
            pass

    def fails() -> None:
        raise ValueError("there is none")

    def task(quiet: None = Depends(swallows), value: None = Depends(fails)) -> None:
        raise AssertionError("it must not begin")

    execution = await docket.add(task)()
    await work_off(docket)
    with pytest.raises(ExceptionGroup, match="value"):
        await execution.get_result()


async def test_an_argument_that_was_not_passed_is_told_or_nothing(docket: Docket):
    def strict(customer: str = TaskArgument()) -> str:
        return customer

    def lenient(customer: str | None = TaskArgument(optional=True)) -> str | None:
        return customer

    async def asks_for_it(customer: str = "nobody", found: str = Depends(strict)) -> str:
        return found

    async def asks_politely(customer: str = "nobody", found: str | None = Depends(lenient)) -> str | None:
        return found

    with_it = await docket.add(asks_for_it)("jane")
    without = await docket.add(asks_for_it)()
    politely = await docket.add(asks_politely)()
    await work_off(docket)
    assert await with_it.get_result() == "jane"
    with pytest.raises(ExceptionGroup, match="found") as failure:
        await without.get_result()
    assert repr(failure.value.exceptions[0]) == "KeyError('customer')"
    assert await politely.get_result() is None


async def test_an_argument_that_the_task_does_not_have_may_have_a_default(docket: Docket):
    def tenant(name: str = CallArgument("tenant", default="nobody's")) -> str:
        return name

    async def task(
        number: int,
        tenant_of_it: str = Depends(tenant),
        same: int = TaskArgument("number"),
        none: object = TaskArgument("there_is_none", optional=True),
    ) -> tuple[str, int, object]:
        return tenant_of_it, same, none

    execution = await docket.add(task)(7)
    await work_off(docket)
    assert await execution.get_result() == ("nobody's", 7, None)


# --- what could never work ------------------------------------------------------------------------------------------


def in_a_ring(x: int = 0) -> int:
    return x


def in_the_same_ring(x: int = Depends(in_a_ring)) -> int:
    return x


in_a_ring.__defaults__ = (Depends(in_the_same_ring),)


def test_what_is_refused_when_it_is_registered_names_the_parameters():
    docket = Docket()

    async def rings(value: int = Depends(in_a_ring)) -> None: ...

    with pytest.raises(
        ValueError, match=r"the dependency in_a_ring of rings \(parameter 'x'\) depends on itself"
    ):
        docket.register(rings)

    async def twice(number: Annotated[int, Retry(attempts=2)], retry: Retry = Retry(attempts=3)) -> None: ...

    with pytest.raises(ValueError, match=r"Only one Retry dependency.*twice has 'retry' and 'number'"):
        docket.register(twice)

    async def both(number: Annotated[int, Depends(lambda: 1)] = Depends(lambda: 2)) -> None: ...

    with pytest.raises(
        ValueError, match="'number' has a dependency both as its default and in its annotation"
    ):
        docket.register(both)

    def asks(nothing: int = TaskArgument("there_is_none")) -> None: ...

    async def misses(value: None = Depends(asks)) -> None: ...

    with pytest.raises(ValueError, match="'there_is_none'"):
        docket.register(misses)

    async def asks_itself(value: int = TaskArgument("there_is_none")) -> None: ...

    with pytest.raises(ValueError, match="'value' of asks_itself asks for the argument 'there_is_none'"):
        docket.register(asks_itself)

    def of_one_execution(customer: str = TaskArgument()) -> None: ...

    async def shares(customer: str, value: None = Shared(of_one_execution)) -> None: ...

    with pytest.raises(ValueError, match="shared by all executions, so its parameter 'customer'"):
        docket.register(shares)

    async def binds(value: int = Depends(lambda: 1, host="a")) -> None: ...

    with pytest.raises(ValueError, match="no parameter 'host' to bind"):
        docket.register(binds)
    assert set(docket.tasks) == {"trace", "fail", "sleep"}, "nothing of this was registered"
