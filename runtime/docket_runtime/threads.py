"""The worker's own threads for sync tasks.

Not anyio's: those are shared with file and DNS helpers, are not daemons, and cost a wake-up of the loop per task. Here
results gather while the loop is busy, and one wake-up brings them all.
"""

from __future__ import annotations

import asyncio
import ctypes
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any, NamedTuple


def raise_in_thread(thread_id: int, error: type[BaseException] | None) -> None:
    """The exception is raised in that thread at its next Python instruction (so not while it sits in a C call); None
    takes back one that has not been raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread_id), None if error is None else ctypes.py_object(error)
    )


class _Job(NamedTuple):
    context: Context
    call: Callable[[], Any]
    future: asyncio.Future[Any]


class Threads:
    """At most `most` daemon threads, started when they are needed."""

    def __init__(self, most: int, name: str) -> None:
        self.most = most
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._done: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = False
        self._busy = 0
        self._meant_for: set[object] = set()
        self._threads: list[threading.Thread] = []

    @property
    def busy(self) -> int:
        """Jobs that are waiting for a thread or run in one."""
        return self._busy

    @property
    def free(self) -> int:
        """Threads that are not meant for anybody; below zero if more were announced than there are."""
        return self.most - len(self._meant_for)

    def announce(self, who: object) -> None:
        """A thread is meant for `who` from now on, long before `run` perhaps, until it is `done_with`."""
        self._meant_for.add(who)

    def done_with(self, who: object) -> None:
        """Said any number of times."""
        self._meant_for.discard(who)

    def run(
        self, context: Context, call: Callable[[], Any]
    ) -> asyncio.Future[tuple[Any, BaseException | None]]:
        """`call()` in a thread, within `context`. The future's result is a pair: what it returned, what it raised.

        As data, because some exceptions (StopIteration, GeneratorExit) cannot be thrown into whoever awaits a future.
        """
        loop = self._loop = self._loop or asyncio.get_running_loop()
        future: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
        self._busy += 1
        if self._busy > len(self._threads) and len(self._threads) < self.most:
            thread = threading.Thread(
                target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        self._jobs.put(_Job(context, call, future))
        return future

    def close(self) -> None:
        """Idle threads end; busy ones end after what they do."""
        for _ in self._threads:
            self._jobs.put(None)
        self._threads, self._jobs = [], queue.SimpleQueue()

    def _work(self) -> None:
        jobs = self._jobs
        while (job := jobs.get()) is not None:
            result, error = None, None
            try:
                result = job.context.run(job.call)
            except BaseException as raised:
                error = raised
            self._hand_back(job.future, result, error)
            del job, result, error  # what a task returned must not live until the next one

    def _hand_back(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._done.append((future, result, error))
        # Two threads may both find it unset: one wake-up too many, never one too few, because the loop clears it
        # before it looks.
        if not self._woken:
            self._woken = True
            try:
                assert self._loop is not None
                self._loop.call_soon_threadsafe(self._collect)
            except RuntimeError:
                pass  # the loop has been closed: nobody waits any more

    def _collect(self) -> None:
        self._woken = False
        while self._done:
            future, result, error = self._done.popleft()
            self._busy -= 1
            if not future.cancelled():
                future.set_result((result, error))
