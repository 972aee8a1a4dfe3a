"""The worker's own threads: as many as are needed, results in batches, nothing kept."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from docket_runtime.threads import Threads

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads(4, "test")
    yield threads
    threads.close()


def start(threads: Threads, call: Callable[[], Any]) -> asyncio.Future[tuple[Any, BaseException | None]]:
    return threads.run(contextvars.copy_context(), call)


async def run(threads: Threads, call: Callable[[], Any]) -> Any:
    result, error = await start(threads, call)
    if error is not None:
        raise error
    return result


async def test_a_call_runs_in_a_thread_with_the_context_of_its_caller(threads: Threads):
    VARIABLE.set("seen")
    where, what = await run(threads, lambda: (threading.current_thread(), VARIABLE.get()))
    assert where is not threading.main_thread() and where.daemon
    assert what == "seen"


async def test_threads_are_started_when_needed_and_used_again(threads: Threads):
    names = [await run(threads, lambda: threading.current_thread().name) for _ in range(20)]
    assert len(set(names)) == 1
    barrier = threading.Barrier(4, timeout=5)
    await asyncio.gather(*(run(threads, barrier.wait) for _ in range(4)))
    assert threads.free == 4


async def test_more_calls_than_threads_wait_in_order(threads: Threads):
    order: list[int] = []
    gate = threading.Event()
    blocking = [start(threads, gate.wait) for _ in range(4)]
    waiting = [start(threads, lambda number=number: order.append(number)) for number in range(10)]
    assert threads.busy == 14
    gate.set()
    await asyncio.gather(*blocking, *waiting)
    assert sorted(order) == list(range(10)) and threads.busy == 0


@pytest.mark.parametrize(
    "error", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()]
)
async def test_whatever_a_call_raises_comes_back_and_the_thread_goes_on(
    threads: Threads, error: BaseException
):
    def raises() -> None:
        raise error

    with pytest.raises(type(error)):
        await run(threads, raises)
    assert await run(threads, lambda: 1) == 1


async def test_what_cannot_be_raised_into_a_coroutine_comes_back_as_data(threads: Threads):
    """A future would turn StopIteration into something else, and a coroutine cannot go on after GeneratorExit."""
    for error in (StopIteration(1), GeneratorExit()):

        def raises(error: BaseException = error) -> None:
            raise error

        assert await start(threads, raises) == (None, error)


async def test_a_caller_that_has_gone_does_not_disturb_the_others(threads: Threads):
    gate = threading.Event()
    abandoned = start(threads, gate.wait)
    abandoned.cancel()
    gate.set()
    assert await run(threads, lambda: "fine") == "fine"
    while threads.busy:
        await asyncio.sleep(0.001)


@pytest.mark.measured
async def test_results_of_many_calls_come_with_few_wake_ups(threads: Threads):
    loop = asyncio.get_running_loop()
    calls = [start(threads, lambda: None) for _ in range(200)]
    time.sleep(0.1)  # the loop is busy meanwhile
    began = loop.time()
    await asyncio.gather(*calls)
    assert loop.time() - began < 0.1


async def test_what_a_call_returned_does_not_live_until_the_next(threads: Threads):
    class Heavy:
        pass

    alive = weakref.ref(await run(threads, Heavy))
    for _ in range(100):
        gc.collect()
        if alive() is None:
            break
        await asyncio.sleep(0.005)
    assert alive() is None


async def test_closed_threads_end(threads: Threads):
    await run(threads, lambda: None)
    (thread,) = [each for each in threading.enumerate() if each.name.startswith("test-")]
    threads.close()
    await asyncio.to_thread(thread.join, 5)
    assert not thread.is_alive()
