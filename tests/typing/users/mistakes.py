"""Mistakes of users; a checker must report each line that is marked, and no other. Nobody runs it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta

from docket import (
    Agenda,
    CurrentDocket,
    CurrentExecution,
    CurrentWorker,
    Depends,
    Docket,
    Execution,
    ExponentialRetry,
    Perpetual,
    Progress,
    Retry,
    Shared,
    TaskKey,
    TaskLogger,
    Timeout,
    Worker,
    sync,
)
from docket import Dokcet  # mistake: no such name
from docket.execution import ExecutionProgress


def a_function() -> int:
    return 1


async def a_coroutine() -> int:
    return 1


def a_generator() -> Iterator[int]:
    yield 1


async def an_async_generator() -> AsyncIterator[int]:
    yield 1


@contextmanager
def a_context_manager() -> Generator[int]:
    yield 1


@asynccontextmanager
async def an_async_context_manager() -> AsyncGenerator[int]:
    yield 1


async def wrongly_injected(
    a: str = Depends(a_function),  # mistake: int
    b: str = Depends(a_coroutine),  # mistake: int
    c: str = Depends(a_generator),  # mistake: int
    d: str = Depends(an_async_generator),  # mistake: int
    e: str = Depends(a_context_manager),  # mistake: int
    f: str = Depends(an_async_context_manager),  # mistake: int
    g: str = Shared(a_function),  # mistake: int
    h: str = Shared(a_coroutine),  # mistake: int
    i: str = Shared(an_async_generator),  # mistake: int
    j: str = Shared(an_async_context_manager),  # mistake: int
    k: str = CurrentDocket(),  # mistake: Docket
    l: str = CurrentWorker(),  # mistake: Worker
    m: Worker = CurrentExecution(),  # mistake: Execution
    n: int = TaskKey(),  # mistake: str
    o: logging.Logger = TaskLogger(),  # mistake: an adapter
    p: Execution = Progress(),  # mistake: its progress
    q: Retry = Perpetual(),  # mistake: something else
    r: ExponentialRetry = Retry(),  # mistake: the general one
    s: Timeout = Timeout(30),  # mistake: a timedelta is wanted
    t: Retry = Retry(attempts="3"),  # mistake: a number is wanted
) -> None: ...


async def task(
    name: str, number: int = 1, *, docket: Docket = CurrentDocket(), retry: Retry = Retry(attempts=2)
) -> str:
    if retry.attempt == 1:
        retry.after(5)  # mistake: a timedelta is wanted
    await docket.add(task)(1)  # mistake: not a str
    docket.add(task)("never awaited")  # mistake: no await
    return name


def in_a_thread(name: str, docket: sync.Docket = CurrentDocket()) -> None:
    docket.add(in_a_thread)()  # mistake: no name
    docket.replace(in_a_thread, None, "k")(name, 3)  # mistake: too many


async def reporting(
    progress: ExecutionProgress = Progress(), execution: Execution = CurrentExecution()
) -> None:
    await progress.increment("1")  # mistake: not a number
    progress.set_total(3)  # mistake: no await
    execution.get_reslut()  # mistake: no such method


async def program(docket: Docket, blocking: sync.Docket) -> None:
    await docket.add(task)()  # mistake: no name
    await docket.add(task)("a", "b")  # mistake: not a number
    await docket.add(task)("a", 1, 2)  # mistake: too many
    await docket.add(task)("a", nmuber=1)  # mistake: no such parameter
    await docket.add(task, when="tomorrow")("a")  # mistake: not a datetime
    await docket.add(task, key=7)("a")  # mistake: not a str
    await docket.add(task)("a", retry=3)  # mistake: not a Retry
    await docket.add(3)("a")  # mistake: no function
    await docket.replace(task, None, "k")(1)  # mistake: not a str
    await docket.replace(task)("a")  # mistake: neither when nor key
    docket.call(task)(1)  # mistake: not a str
    await docket.add_many([docket.add(task)("a")])  # mistake: add where call is meant
    await docket.add_many([docket.call(task)()])  # mistake: no name
    docket.cancel("k")  # mistake: no await
    (await docket.add(task)("a")).kye  # mistake: no such attribute
    await blocking.add(task)("a")  # mistake: nothing to await
    blocking.add(task)(1)  # mistake: not a str
    Agenda().add(task)(1)  # mistake: not a str
    await Agenda().scatter(docket, over=600)  # mistake: not a timedelta
    Worker(docket, concurrency="10")  # mistake: not a number
    Worker(blocking)  # mistake: a worker needs the other docket
    Docket(execution_ttl=900)  # mistake: not a timedelta
    await docket.strike(task, "name", "==", "x", hold="yes")  # mistake: not a bool

    await docket.add(task)("a", 1)
    await docket.add("task")("a", anything=True)
    blocking.add(task)("a")
    Retry(attempts=None, delay=timedelta(seconds=1))
