"""How long a task may run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Self

from docket import clock
from docket.dependencies.base import Dependency
from docket.durations import positive


class Timeout(Dependency):
    """A body that runs longer than `base` fails with TimeoutError, and is retried if the task says so.

    An async body is cancelled at its await; in the thread of a sync one TaskInterrupted is raised (`shield` holds it
    back, `check_cancelled` asks for it); if that does not end it, its process is replaced. The outcome is settled when
    the body has really ended. Opening dependencies does not count.
    """

    single = True

    def __init__(self, base: timedelta) -> None:
        self.base = positive(base, "a timeout")
        self.allowed = base
        self._deadline: float | None = None
        self._changed: Callable[[], object] | None = None

    def for_run(self, changed: Callable[[], object]) -> Self:
        """A copy for one run; `changed` is called, in whatever thread, when its deadline moves."""
        copy = self.__class__(self.base)
        copy._changed = changed
        return copy

    def start(self) -> None:
        """The time runs from now on; the worker calls it right before the body."""
        self.allowed = self.base
        self._deadline = clock.monotonic() + self.base.total_seconds()
        if self._changed is not None:
            self._changed()

    def extend(self, by: timedelta | None = None) -> None:
        """So much more time (by default, as much again)."""
        if self._deadline is None:
            self.start()
        else:
            more = self.base if by is None else by
            self.allowed += more
            self._deadline += more.total_seconds()
        if self._changed is not None:
            self._changed()

    def remaining(self) -> timedelta:
        """What is left; negative when it has passed."""
        if self._deadline is None:
            return self.base
        return timedelta(seconds=self._deadline - clock.monotonic())

    def expired(self) -> bool:
        return self.remaining() <= timedelta(0)
