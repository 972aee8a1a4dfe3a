"""What users write; a checker must find nothing here. Nobody runs it."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any, TextIO, assert_type

import docket
from docket import (
    Agenda,
    CallArgument,
    Cron,
    CurrentDocket,
    CurrentExecution,
    CurrentWorker,
    Depends,
    Disposition,
    Docket,
    Execution,
    ExecutionCancelled,
    ExecutionState,
    ExponentialRetry,
    Logged,
    Perpetual,
    Progress,
    Retry,
    Shared,
    StrikeList,
    TaskArgument,
    TaskCall,
    TaskKey,
    TaskLogger,
    Timeout,
    Worker,
    check_cancelled,
    shield,
    sync,
    tasks,
    testing,
)
from docket.agenda import Agenda as AnAgenda
from docket.annotations import Annotation
from docket.dependencies import Dependency, DependencyFunction, ForcedRetry
from docket.docket import DocketSnapshot, TaskCollection, WorkerInfo
from docket.execution import ExecutionProgress, ProgressEvent, StateEvent, TaskFunction
from docket.execution import TaskCall as ATaskCall
from docket.strikelist import Operator, Restore, Strike, StrikeInstruction
from docket.worker import Worker as AWorker

# --- what is injected -----------------------------------------------------------------------------------------------


class Connection:
    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *error: object) -> None: ...


class Client:
    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None: ...


def a_function() -> int:
    return 1


async def a_coroutine(customer: str = TaskArgument(), word: str = CallArgument("word", default="hi")) -> str:
    return f"{word} {customer}"


def a_generator() -> Iterator[int]:
    yield 1


def another_generator() -> Generator[int, None, None]:
    yield 1


async def an_async_generator() -> AsyncIterator[bytes]:
    yield b""


async def another_async_generator() -> AsyncGenerator[bytes, None]:
    yield b""


@contextlib.contextmanager
def a_context_manager() -> Generator[float]:
    yield 1.0


@contextlib.asynccontextmanager
async def an_async_context_manager(nested: bytes = Depends(an_async_generator)) -> AsyncGenerator[complex]:
    yield 1j


def a_connection() -> Connection:
    return Connection()


def a_file() -> TextIO:
    return open("/dev/null")


assert_type(Depends(a_function), int)
assert_type(Depends(a_coroutine, word="hello"), str)
assert_type(Depends(a_generator), int)
assert_type(Depends(another_generator), int)
assert_type(Depends(an_async_generator), bytes)
assert_type(Depends(another_async_generator), bytes)
assert_type(Depends(a_context_manager), float)
assert_type(Depends(an_async_context_manager), complex)
assert_type(Depends(a_connection), Connection)
assert_type(Depends(Connection), Connection)
assert_type(Depends(Client), Client)
assert_type(Depends(a_file), TextIO)
assert_type(Shared(a_function), int)
assert_type(Shared(a_coroutine), str)
assert_type(Shared(a_generator), int)
assert_type(Shared(an_async_generator), bytes)
assert_type(Shared(a_context_manager), float)
assert_type(Shared(an_async_context_manager), complex)
assert_type(Shared(Connection), Connection)
assert_type(TaskKey(), str)
assert_type(CurrentWorker(), Worker)
assert_type(TaskLogger(), logging.LoggerAdapter[logging.Logger])


async def everything(
    customer: Annotated[str, Logged],
    numbers: Annotated[list[int], Logged(length_only=True)],
    ratio: float = 0.5,
    *,
    a: int = Depends(a_function),
    b: str = Depends(a_coroutine),
    c: int = Depends(a_generator),
    d: bytes = Depends(an_async_generator),
    e: float = Depends(a_context_manager),
    f: complex = Shared(an_async_context_manager),
    g: Annotated[int, Depends(a_function)] = 3,
    here: Docket = CurrentDocket(),
    worker: Worker = CurrentWorker(),
    execution: Execution = CurrentExecution(),
    progress: ExecutionProgress = Progress(),
    key: str = TaskKey(),
    logger: logging.LoggerAdapter[logging.Logger] = TaskLogger(),
    retry: Retry = Retry(attempts=3, delay=timedelta(seconds=1)),
    timeout: Timeout = Timeout(timedelta(minutes=1)),
) -> str:
    await progress.set_total(len(numbers))
    await progress.increment()
    await here.add(everything)(customer, numbers, ratio=1.0)
    if execution.redelivered or retry.attempt > 1:
        retry.after(timedelta(seconds=5))
    timeout.extend(timedelta(seconds=1))
    logger.info("%s on %s", key, worker.name, extra={"customer": customer})
    return customer


def in_a_thread(
    customer: str,
    here: sync.Docket = CurrentDocket(),
    execution: sync.Execution = CurrentExecution(),
    progress: sync.ExecutionProgress = Progress(),
    retry: ExponentialRetry = ExponentialRetry(attempts=5, minimum_delay=timedelta(seconds=1)),
) -> int:
    progress.increment(2)
    added = here.add(in_a_thread, key="next")("somebody")
    assert_type(added, sync.Execution)
    with shield():
        check_cancelled()
    if execution.attempt > 2:
        retry.at(datetime.now(UTC) + timedelta(hours=1))
    return 1


async def every_minute(
    url: str,
    rate: int = 1,
    perpetual: Perpetual = Perpetual(every=timedelta(minutes=1), automatic=False),
    progress: Progress = Progress(),
) -> None:
    await progress.set_message(url)
    perpetual.every = timedelta(seconds=30)
    perpetual.perpetuate(url, rate + 1)
    perpetual.cancel()


async def nightly(cron: Cron = Cron("0 3 * * *", tz=timezone(timedelta(hours=9)))) -> None:
    print(cron.next_time())


class Callable_:
    async def __call__(self, x: int) -> None: ...


class Mine(Dependency):
    async def __aenter__(self) -> int:
        return self.execution.get().attempt

    async def __aexit__(self, *error: object) -> None: ...


class Marked(Annotation): ...


a_factory: DependencyFunction[int] = a_function
a_task: TaskFunction = a_function
instructions: list[StrikeInstruction] = [Strike("f", None, "==", 1, False), Restore("f", None, "==", 1)]
same: tuple[type[Agenda], type[TaskCall], type[Worker]] = (AnAgenda, ATaskCall, AWorker)
to_be_caught: type[Exception] = ForcedRetry

# --- what a program does with a docket ------------------------------------------------------------------------------


async def program() -> None:
    async with Docket(name="shop", url="memory://shop", execution_ttl=timedelta(hours=1)) as shop:
        collection: TaskCollection = [everything, in_a_thread]
        for each in collection:
            shop.register(each)
        shop.register_collection("shop:tasks")
        execution = await shop.add(everything)("jane", [1, 2], 0.3)
        assert_type(execution, Execution)
        await shop.add(everything, when=datetime.now(UTC), key="k")("jane", numbers=[])
        await shop.add("by_name")("anything", goes=True)
        await shop.add(in_a_thread)("jane")
        await shop.add(every_minute)("https://example.com", rate=5)
        await shop.add(nightly)()
        await shop.add(Callable_())(1)
        await shop.add(functools.partial(everything, "jane"))([1])
        await shop.add(tasks.trace)("hello")
        await shop.replace(everything, datetime.now(UTC), "k")("jane", [1])
        await shop.replace(everything, when=None, key="k")("jane", [1])
        calls: list[TaskCall] = [shop.call(everything)(name, [1]) for name in ("jane", "john")]
        many: list[Execution] = await shop.add_many(calls, chunk_size=None)
        await shop.replace_many([shop.call(in_a_thread, key="k")("jane")])
        later: Callable[[str], Awaitable[Execution]] = shop.add(in_a_thread)
        await later("jane")
        if many[0].disposition is Disposition.ALREADY_SCHEDULED or execution.state == ExecutionState.QUEUED:
            await shop.cancel(execution.key)
        try:
            result: Any = await execution.get_result(timeout=timedelta(seconds=1))
            print(result)
        except (ExecutionCancelled, TimeoutError):
            pass
        async for event in execution.subscribe():
            assert_type(event, StateEvent | ProgressEvent)
            if event["type"] == "state":
                print(event["state"])
            else:
                print(event["current"])
        await shop.strike(everything, "customer", "==", "jane", hold=True)
        await shop.strike(None, "customer", Operator.EQUAL, "jane")
        await shop.restore("everything")
        strikes: StrikeList = shop.strike_list
        snapshot: DocketSnapshot[Execution] = await shop.snapshot()
        workers: list[WorkerInfo] = await shop.workers()
        print(strikes, snapshot.total_tasks, workers, await shop.clear(), docket.__version__)
        agenda = Agenda()
        agenda.add(everything)("jane", [1])
        agenda.add("by_name", key="k")(1)
        scattered: list[Execution] = await agenda.scatter(shop, over=timedelta(minutes=10))
        print(len(scattered))
        async with Worker(
            shop, concurrency=3, threads=2, dependencies=[Depends(an_async_context_manager), Mine()]
        ) as worker:
            await worker.run_until_finished()
            await worker.run_at_most({"k": 2})
        async with Worker(shop, dependencies={"session": Depends(a_context_manager)}) as worker:
            await worker.run_forever()
        await testing.assert_task_scheduled(shop, everything, args=("jane", [1]))
        await testing.run_to_the_end(shop)


def program_without_a_loop() -> None:
    with sync.Docket("shop", "memory://shop") as shop:
        execution = shop.add(everything)("jane", [1])
        assert_type(execution, sync.Execution)
        shop.replace(in_a_thread, None, "k")("jane")
        many: list[sync.Execution] = shop.add_many([shop.call(in_a_thread)("jane")])
        print(execution.get_result(), many, shop.snapshot().total_tasks)
        agenda = Agenda()
        agenda.add(in_a_thread)("jane")
        scattered: list[sync.Execution] = agenda.scatter(shop, timedelta(minutes=1))
        print(scattered)
        testing.assert_task_count(shop, in_a_thread, count=1)
