"""From a claim to its settlement: each body is a task of its own, and the exchange is told however it ends."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine
from types import FunctionType
from typing import TYPE_CHECKING, Any

from docket import clock, scheduling, stacks
from docket.message import Claimed
from docket_runtime import outcomes
from docket_runtime.admission import Waits
from docket_runtime.claims import Flight
from docket_runtime.executor import Executor
from docket_runtime.quota import Quota
from docket_runtime.rounds import settlement_of

if TYPE_CHECKING:
    from docket_runtime.desk import Desk
    from docket_runtime.worker import Worker

_LOG = logging.getLogger("docket.worker")


class Flights:
    """Begins what is claimed, and lands it; holds the tasks, which an event loop does not."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._executor = Executor(worker)
        self._in_place = [self._flying_in(place) for place in range(worker.concurrency)]
        self.under_way: set[asyncio.Task[None]] = set()
        self.quota = Quota()
        self.begun = 0
        """So many have been, in all."""

    def begin(self, claimed: Claimed, desk: Desk) -> None:
        if self.quota.is_used_up(claimed.key):
            self.settle(claimed, desk, outcomes.cancelled(self.quota.refusal(claimed.key)))
            return
        self.quota.begun(claimed.key)
        self.begun += 1
        flight = desk.claims.take(claimed)
        flight.desk = desk
        loop = asyncio.get_running_loop()
        flight.task = loop.create_task(self._in_place[flight.place](flight), name=claimed.key)
        self.under_way.add(flight.task)
        flight.task.add_done_callback(self.under_way.discard)

    def settle(self, claimed: Claimed, desk: Desk, outcome: outcomes.Outcome) -> None:
        desk.exchange.settle(settlement_of(claimed, outcome))

    async def settled(self, key: str, desk: Desk) -> None:
        """A key that has run as often as it may has no successor: otherwise a run that ends when all is done would wait
        for it."""
        store = self._worker.docket.store
        await desk.persist(
            lambda: store.perform(scheduling.cancel(desk.keys, key)),
            f"cancel {key}, which has run as often as it may",
        )
        desk.exchange.wake()

    def _flying_in(self, place: int) -> Callable[[Flight], Coroutine[Any, Any, None]]:
        """`_fly` under a name that tells the place: in a stack taken from outside, only names can tell executions."""
        fly = FunctionType(stacks.in_place(Flights._fly.__code__, place), globals())
        return functools.partial(fly, self)

    async def _fly(self, flight: Flight) -> None:
        try:
            outcome = await self._executor.execute(flight)
        except Waits:
            self._let_wait(flight)
            return
        except asyncio.CancelledError:
            outcome = outcomes.INTERRUPTED if flight.interrupted else outcomes.cancelled()
        except BaseException as error:
            _LOG.exception("the runtime itself failed on %s", flight.claimed.key)
            wrapping = outcomes.wrapping(self._worker.docket.core.door, flight.claimed)
            outcome = outcomes.failed(error, wrapping)
        self._land(flight, outcome)

    def _let_wait(self, flight: Flight) -> None:
        self.quota.put_off(flight.claimed.key)
        flight.desk.claims.release(flight)
        flight.desk.exchange.let_wait(flight.claimed.entry)

    def _land(self, flight: Flight, outcome: outcomes.Outcome) -> None:
        board = self._worker.surroundings.board
        board.ended(flight.place)
        flight.desk.claims.release(flight)
        if flight.counted_from is not None:
            failed = flight.raised or outcome.verb == "failed"
            seconds = clock.monotonic() - flight.counted_from
            # Before the settlement: what the ledger calls done must never be more than what was counted.
            board.finished(flight.claimed.function, outcome.verb, failed, seconds)
        self.settle(flight.claimed, flight.desk, outcome)
