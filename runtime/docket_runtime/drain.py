"""How a worker ends: quiet, then waiting, then interrupting what is left when its time is up.

The deadline is an instant passed down, not a duration, and it may come nearer while the drain goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from docket import clock
from docket_runtime.settings import SHORT_DRAIN

if TYPE_CHECKING:
    from docket_runtime.worker import Worker

_LOG = logging.getLogger("docket.worker")

_LOOKING = 0.25
"""Seconds between looks whether only those are left that cannot be ended."""
_UNWINDING = 1.0
"""Seconds that an interrupted body has for its clean-up."""
_LEAVING = 2.0
"""Seconds for the last outcomes, however late the bodies have ended."""


class Drain:
    """Asked for from outside, or begun when the block that runs the worker ends."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.begin()

    def begin(self) -> None:
        self.asked = asyncio.Event()
        self.left_in_threads = 0
        self.passed_deadline = False
        self._over = False
        self._deadline: float | None = None
        self._sooner = asyncio.Event()

    def ask(self, deadline: float | None) -> None:
        """Drain until this monotonic instant; asked again, the nearer one holds."""
        if deadline is not None and (self._deadline is None or deadline < self._deadline):
            self._deadline = deadline
            self._sooner.set()
        self.asked.set()
        if not self._over:
            # Else it would seem to hold something still, and to stand: nothing shows any more that the loop turns.
            self._worker.surroundings.board.phase("draining")
        self._worker.be_quiet()

    def end(self) -> None:
        """The worker has left: nothing is to be done any more about what it held, whoever asks it to drain."""
        self._over = True
        self._worker.surroundings.board.phase("left")

    def ask_as_set(self) -> None:
        """Within the worker's own drain timeout, unless it was asked for before."""
        if not self.asked.is_set():
            self.ask(self.in_full())

    def ask_for_a_short_one(self) -> None:
        """Within a few seconds, or the worker's own drain timeout if that is less."""
        self.ask_as_set()
        self.ask(self.in_short())

    def in_full(self) -> float | None:
        """The deadline of a drain that begins now and takes the worker's own drain timeout."""
        timeout = self._worker.settings.drain_timeout
        return None if timeout is None else clock.monotonic() + timeout.total_seconds()

    def in_short(self) -> float:
        """The same for one of somebody who was asked twice, or has failed."""
        return clock.monotonic() + SHORT_DRAIN.total_seconds()

    @asynccontextmanager
    async def unless_asked(self) -> AsyncGenerator[None]:
        """The block is left early when a drain is asked for."""
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                await self.asked.wait()
                group.cancel_scope.cancel()

            group.start_soon(watch)
            yield
            group.cancel_scope.cancel()

    @asynccontextmanager
    async def in_time(self) -> AsyncGenerator[None]:
        """The block is left when the deadline has passed, though never within `_LEAVING`. No deadline: when it ends."""
        least = clock.monotonic() + _LEAVING
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                passed = False
                while not passed:
                    self._sooner.clear()
                    until = None if self._deadline is None else max(self._deadline, least)
                    with anyio.move_on_after(
                        None if until is None else until - clock.monotonic()
                    ) as patience:
                        await self._sooner.wait()
                    passed = patience.cancelled_caught
                group.cancel_scope.cancel()

            group.start_soon(watch)
            yield
            group.cancel_scope.cancel()

    def give_up(self, unsettled: int) -> None:
        """So many have ended, and nobody will ever know."""
        self.passed_deadline = True
        _LOG.warning(
            "the drain's time is up, and of %d executions that have ended Redis was not told: they run again",
            unsettled,
        )

    async def run(self) -> None:
        """Nothing is claimed any more; everything held has ended, or was interrupted and handed back."""
        self.ask_as_set()
        await self._worker.unblock()
        await self._wait()
        if self._worker.claims:
            await self._interrupt()

    async def _wait(self) -> None:
        while self._worker.claims:
            self._sooner.clear()
            left = None if self._deadline is None else self._deadline - clock.monotonic()
            if left is not None and left <= 0:
                return
            if any(flight.timed_out_at for flight in self._worker.claims):
                if all(flight.cannot_be_ended for flight in self._worker.claims):
                    return  # they have had their time, and nobody else is waited for
                left = _LOOKING if left is None else min(left, _LOOKING)
            emptied = asyncio.ensure_future(self._worker.claims.emptied.wait())
            sooner = asyncio.ensure_future(self._sooner.wait())
            await asyncio.wait((emptied, sooner), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            emptied.cancel()
            sooner.cancel()

    async def _interrupt(self) -> None:
        self.passed_deadline = True
        interrupted = [flight for flight in self._worker.claims if not flight.timed_out]
        if interrupted:
            _LOG.warning(
                "the drain's time is up: %d executions are interrupted and handed back", len(interrupted)
            )
        for flight in interrupted:
            flight.interrupted = True
            flight.stop()
        if not all(flight.cannot_be_ended for flight in self._worker.claims):
            with anyio.move_on_after(_UNWINDING):
                await self._worker.claims.emptied.wait()
        self.left_in_threads = len(self._worker.claims)
        for flight in self._worker.claims:
            _LOG.warning(
                "%s (%s) did not stop; it ends with this process", flight.claimed.key, flight.claimed.function
            )
