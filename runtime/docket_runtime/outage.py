"""How a worker takes it when Redis is away: it says so once, waits longer and longer, and says when it is back."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from docket import clock
from docket.store.refusals import Forbidden, ForeignKey

_LOG = logging.getLogger("docket.worker")

_FIRST = 0.005


class Outage:
    """`longest`: seconds between two tries at the most. `disrupted` is called when one begins."""

    def __init__(self, longest: float, disrupted: Callable[[], object] = lambda: None) -> None:
        self._longest = min(longest, 1.0)
        self._disrupted = disrupted
        self._began: float | None = None
        self._pause = _FIRST

    @property
    def is_on(self) -> bool:
        return self._began is not None

    async def wait(self, error: BaseException) -> None:
        """Returns when it is time for another try."""
        if self._began is None:
            self._began = clock.monotonic()
            said = "refuses" if isinstance(error, (ForeignKey, Forbidden)) else "is away"
            _LOG.warning("Redis %s (%s: %s); waiting for it", said, type(error).__name__, error)
            self._disrupted()
        await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
        self._pause = min(self._pause * 2, self._longest)

    def over(self) -> None:
        if self._began is not None:
            _LOG.warning("Redis is back after %.1f s", clock.monotonic() - self._began)
            self._began, self._pause = None, _FIRST
