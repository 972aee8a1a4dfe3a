"""How a running sync task learns that it shall end, and how it keeps what must not be torn apart in one piece.

A thread cannot be cancelled from outside like a coroutine. What can be done is to set a flag that the task may look at
(`check_cancelled`) and to raise an exception in its thread at the next Python instruction; `shield` holds that back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

from docket.errors import TaskInterrupted

_current: ContextVar[Interruption | None] = ContextVar("docket.interruption", default=None)


class Interruption:
    """One for each run of a sync task; requested by the loop, felt by the thread.

    `raise_in_thread(thread_id, error)` is given by the runtime; with None it takes back what was not raised yet.
    """

    def __init__(self, raise_in_thread: Callable[[int, type[BaseException] | None], None]) -> None:
        self._raise_in_thread = raise_in_thread
        self._lock = threading.Lock()
        self._thread_id: int | None = None
        self._shields = 0
        self.requested = False

    def begin(self) -> None:
        """Called in the thread, right before the task."""
        _current.set(self)
        with self._lock:
            self._thread_id = threading.get_ident()

    def end(self) -> None:
        """Called in the thread, right after the task: from now on nothing is raised in it, nor is left to be raised."""
        with self._lock:
            thread_id, self._thread_id = self._thread_id, None
            if self.requested and thread_id is not None:
                self._raise_in_thread(thread_id, None)

    def request(self) -> None:
        """Called from the loop, any number of times; the exception is raised once."""
        with self._lock:
            if not self.requested:
                self.requested = True
                if self._thread_id is not None and not self._shields:
                    self._raise_in_thread(self._thread_id, TaskInterrupted)

    @property
    def shielded(self) -> bool:
        return self._shields > 0

    def check(self) -> None:
        if self.requested:
            raise TaskInterrupted("the execution was cancelled")

    @contextmanager
    def shield(self) -> Generator[None]:
        with self._lock:
            self._shields += 1
        try:
            yield
        finally:
            with self._lock:
                self._shields -= 1
        if not self._shields:
            self.check()


def check_cancelled() -> None:
    """Raises TaskInterrupted if this sync task has been cancelled or must end; elsewhere it does nothing."""
    interruption = _current.get()
    if interruption is not None:
        interruption.check()


@contextmanager
def shield() -> Generator[None]:
    """What happens within is not interrupted; an interruption asked for meanwhile is raised at the end of the block."""
    interruption = _current.get()
    if interruption is None:
        yield
        return
    with interruption.shield():
        yield
