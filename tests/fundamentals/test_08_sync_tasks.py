"""Ordinary functions run on threads of the worker, many at once."""

from __future__ import annotations

import threading
import time

from docket import CurrentDocket, CurrentExecution, Docket, Retry, TaskKey, Worker
from docket.sync import Docket as BlockingDocket
from docket.sync import Execution as BlockingExecution


async def test_sync_tasks_run_beside_each_other(docket: Docket):
    """A task that blocks holds up neither the loop nor the other tasks."""
    together = threading.Barrier(4, timeout=5)
    threads: set[str] = set()

    def meet() -> None:
        together.wait()
        threads.add(threading.current_thread().name)

    for _ in range(4):
        await docket.add(meet)()
    async with Worker(docket, concurrency=4) as worker:
        await worker.run_until_finished()
    assert len(threads) == 4 and threading.main_thread().name not in threads


async def test_threads_can_be_fewer_than_slots(docket: Docket):
    """`threads=` bounds the sync tasks; async ones go on beside them."""
    inside = most = 0
    lock = threading.Lock()

    def blocks() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.01)
        with lock:
            inside -= 1

    for _ in range(10):
        await docket.add(blocks)()
    async with Worker(docket, concurrency=10, threads=2) as worker:
        await worker.run_until_finished()
    assert most == 2


async def test_results_exceptions_and_retries_are_those_of_async_tasks(docket: Docket, work):
    """Nothing else is different."""
    attempts: list[int] = []

    def divides(a: int, b: int, retry: Retry = Retry(attempts=2)) -> float:
        attempts.append(retry.attempt)
        return a / b

    good, bad = await docket.add(divides)(1, 2), await docket.add(divides)(1, 0)
    await work()
    assert await good.get_result() == 0.5
    try:
        await bad.get_result()
        raise AssertionError("it should have failed")
    except ZeroDivisionError:
        pass
    assert sorted(attempts) == [1, 1, 2]


async def test_a_sync_task_is_given_blocking_surroundings(docket: Docket, work):
    """`CurrentDocket()` is a `docket.sync.Docket` there: no `await` to forget."""
    ran: list[str] = []

    def child(what: str) -> None:
        ran.append(what)

    def parent(
        client: BlockingDocket = CurrentDocket(),  # type: ignore[assignment]
        execution: BlockingExecution = CurrentExecution(),  # type: ignore[assignment]
        key: str = TaskKey(),
    ) -> None:
        assert execution.key == key
        client.add(child)(f"child of {key}")

    await docket.add(parent, key="p")()
    await work()
    assert ran == ["child of p"]
