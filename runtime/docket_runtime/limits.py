"""The time limit of one run: a timer on the loop that follows the deadline wherever the task moves it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import timedelta

from docket import clock
from docket.dependencies.timeout import Timeout


class TimeLimit:
    """Calls `expire` once, on the loop, when the deadline of the run's timeout has passed."""

    def __init__(self, statement: Timeout, expire: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._expire = expire
        self._timer: asyncio.TimerHandle | None = None
        self._over = False
        self._announce: Callable[[float], object] = lambda deadline: None
        self.timeout = statement.for_run(self._moved)
        self.expired = False

    def begin(self, announce: Callable[[float], object]) -> None:
        """The time runs. `announce` is told the deadline, a monotonic instant, now and whenever it moves: infinity when
        the body has ended in time."""
        self._announce = announce
        self.timeout.start()

    def over(self) -> None:
        """The body has ended: nothing expires any more. In whatever thread."""
        if not self._over:
            self._over = True
            if not self.expired:
                # Or whoever reads it, while a blocked loop cannot say how it ended, finds it too late.
                self._announce(math.inf)

    def go_on(self) -> None:
        """It has not ended after all. On the loop."""
        self._over = False
        self._moved()

    def end(self) -> None:
        """The same, on the loop, which forgets the timer."""
        self.over()
        if self._timer is not None:
            self._timer.cancel()

    def _moved(self) -> None:
        if self._over:
            return
        # A sync task moves its deadline from its own thread.
        self._announce(clock.monotonic() + self.timeout.remaining().total_seconds())
        self._loop.call_soon_threadsafe(self._arm)

    def _arm(self) -> None:
        if self._over or self.expired:
            return
        if self._timer is not None:
            self._timer.cancel()
        left = self.timeout.remaining() / timedelta(seconds=1)
        if left > 0:
            self._timer = self._loop.call_later(left, self._arm)
        else:
            self.expired = True
            self._expire()
