"""What a task may ask for in its signature: values made by functions, opened before its body and closed after it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Annotated, Any

import pytest

from docket import (
    CallArgument,
    CurrentDocket,
    CycleError,
    Depends,
    Docket,
    Retry,
    Shared,
    TaskArgument,
    Worker,
)


async def run(docket: Docket, **options: Any) -> None:
    async with Worker(docket, **options) as worker:
        await asyncio.wait_for(worker.run_until_finished(), 10)


async def test_a_function_makes_the_value(docket: Docket) -> None:
    """The default `Depends(function)` is replaced by what the function returns, whether it is async or not."""

    async def settings() -> dict[str, int]:
        return {"limit": 3}

    def name(docket: Docket = CurrentDocket()) -> str:
        return docket.name

    async def task(settings: dict[str, int] = Depends(settings), name: str = Depends(name)) -> Any:
        return settings["limit"], name

    execution = await docket.add(task)()
    await run(docket)
    assert await execution.get_result() == (3, docket.name)


async def test_what_is_opened_is_closed_in_reverse_order_also_after_a_failure(docket: Docket) -> None:
    """Generators and context managers of both kinds are open while the body runs."""
    events: list[str] = []

    @asynccontextmanager
    async def connection() -> AsyncIterator[str]:
        events.append("open connection")
        try:
            yield "connection"
        except ValueError:
            events.append("connection saw the failure")
            raise
        finally:
            events.append("close connection")

    def transaction(connection: str = Depends(connection)) -> Iterator[str]:
        events.append(f"begin on {connection}")
        yield "transaction"
        events.append("never reached after a failure")

    async def task(transaction: str = Depends(transaction)) -> None:
        events.append("body")
        raise ValueError

    execution = await docket.add(task)()
    await run(docket)
    with pytest.raises(ValueError):
        await execution.get_result()
    assert events == [
        "open connection",
        "begin on connection",
        "body",
        "connection saw the failure",
        "close connection",
    ]


async def test_a_dependency_is_opened_once_for_each_execution(docket: Docket) -> None:
    """However many parameters and other dependencies ask for it."""
    opened: list[int] = []

    async def connection() -> int:
        opened.append(1)
        return len(opened)

    async def repository(connection: int = Depends(connection)) -> int:
        return connection

    async def task(a: int = Depends(connection), b: int = Depends(repository)) -> tuple[int, int]:
        return a, b

    first = await docket.add(task)()
    await run(docket)
    second = await docket.add(task)()
    await run(docket)
    assert await first.get_result() == (1, 1)
    assert await second.get_result() == (2, 2)


async def test_shared_values_are_made_once_for_each_worker(docket: Docket) -> None:
    """When they are first needed; they are closed when the worker ends."""
    events: list[str] = []

    async def pool() -> AsyncIterator[str]:
        events.append("open")
        yield "pool"
        events.append("close")

    async def task(pool: str = Shared(pool)) -> None:
        events.append(pool)

    await docket.add_many(docket.call(task)() for _ in range(3))
    await run(docket)
    assert events == ["open", "pool", "pool", "pool", "close"]


async def test_a_dependency_may_look_at_the_arguments_of_the_task(docket: Docket) -> None:
    """`TaskArgument` is what the caller passed, `CallArgument` also what the task itself falls back to."""

    def customer(customer_id: int = TaskArgument()) -> str:
        return f"customer {customer_id}"

    def greeting(who: str = CallArgument("customer"), word: str = CallArgument("word")) -> str:
        return f"{word}, {who}"

    async def task(
        customer_id: int,
        word: str = "Hello",
        customer: str = Depends(customer),
        greeting: str = Depends(greeting),
    ) -> str:
        return greeting

    execution = await docket.add(task)(7)
    await run(docket)
    assert await execution.get_result() == "Hello, customer 7"


async def test_annotations_do_as_well_as_defaults(docket: Docket) -> None:
    """`Annotated[T, Depends(...)]` supplies the value, so that the default stays free."""

    async def task(number: Annotated[int, Depends(lambda: 5)]) -> int:
        return number

    execution = await docket.add(task)()  # pyright: ignore[reportCallIssue]
    await run(docket)
    assert await execution.get_result() == 5


async def test_what_the_caller_passes_wins(docket: Docket) -> None:
    async def task(number: int = Depends(lambda: 5)) -> int:
        return number

    execution = await docket.add(task)(number=6)
    await run(docket)
    assert await execution.get_result() == 6


async def test_sync_tasks_have_all_of_it(docket: Docket) -> None:
    """Async dependencies are opened on the loop, sync ones in the thread that runs the task."""
    threads: dict[str, str] = {}

    async def on_the_loop() -> str:
        threads["async dependency"] = threading.current_thread().name
        return "async"

    @contextmanager
    def in_the_thread(beneath: str = Depends(on_the_loop)) -> Iterator[str]:
        threads["sync dependency"] = threading.current_thread().name
        yield f"sync on {beneath}"
        threads["closing"] = threading.current_thread().name

    def task(value: str = Depends(in_the_thread), again: str = Depends(on_the_loop)) -> str:
        threads["body"] = threading.current_thread().name
        return f"{value}, {again}"

    execution = await docket.add(task)()
    await run(docket)
    assert await execution.get_result() == "sync on async, async"
    assert threads["async dependency"] == threading.main_thread().name
    assert threads["sync dependency"] == threads["body"] == threads["closing"]
    assert threads["body"] != threading.main_thread().name


async def test_a_failing_dependency_fails_the_task_not_the_worker(docket: Docket) -> None:
    """All that failed is named, and a retry tries it again."""
    attempts: list[int] = []

    async def broken() -> None:
        attempts.append(1)
        raise RuntimeError("no database")

    async def task(database: None = Depends(broken), retry: Retry = Retry(attempts=2)) -> None: ...

    async def other() -> str:
        return "fine"

    failing, fine = await docket.add(task)(), await docket.add(other)()
    await run(docket)
    with pytest.raises(ExceptionGroup, match=r"Failed to resolve dependencies for parameter.*database"):
        await failing.get_result()
    assert await fine.get_result() == "fine"
    assert len(attempts) == 2


async def test_worker_wide_dependencies_are_open_around_every_task(docket: Docket) -> None:
    events: list[str] = []

    @asynccontextmanager
    async def session() -> AsyncIterator[None]:
        events.append("open")
        yield
        events.append("close")

    async def task() -> None:
        events.append("body")

    await docket.add(task)()
    await run(docket, dependencies=[Depends(session)])
    assert events == ["open", "body", "close"]


def test_what_can_never_work_is_refused_when_it_is_registered() -> None:
    """With a message that names the parameters."""
    docket = Docket()

    async def two_retries(a: Retry = Retry(), b: Retry = Retry()) -> None: ...

    with pytest.raises(ValueError, match=r"Only one Retry.*'a' and 'b'"):
        docket.register(two_retries)

    def first(value: int = CallArgument("b")) -> int:
        return value

    def second(value: int = CallArgument("a")) -> int:
        return value

    async def ring(a: int = Depends(first), b: int = Depends(second)) -> None: ...

    with pytest.raises(CycleError, match="a → b → a"):
        docket.register(ring)

    async def unfilled(a: int = Depends(lambda missing: missing)) -> None: ...

    with pytest.raises(ValueError, match="missing"):
        docket.register(unfilled)

    async def bare(a: int = TaskArgument()) -> None: ...

    with pytest.raises(ValueError, match=r"'a'.*TaskArgument"):
        docket.register(bare)


async def test_a_retry_may_stand_in_an_annotation(docket: Docket) -> None:
    """A statement about the call, rather than a value, may be put beside any parameter."""
    attempts: list[int] = []

    async def task(number: Annotated[int, Retry(attempts=3, delay=timedelta(0))]) -> None:
        attempts.append(number)
        raise ValueError

    await docket.add(task)(1)
    await run(docket)
    assert attempts == [1, 1, 1]
