"""Where a worker deals with one partition of its docket: its place on the roll there, its lease, its exchange.

A docket that is not split has one, and so has each worker of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import anyio
from anyio.abc import TaskGroup
from redis.exceptions import RedisError

from docket import message, strikes
from docket.errors import AuthenticationFailed, DocketError
from docket.message import Claimed
from docket.partitions import Partition
from docket.store.asynchronous import AsyncStore
from docket.store.connect import address_of, translated
from docket.store.keys import SUSPECTS
from docket.store.listener import Listener
from docket.store.requests import Commands
from docket.store.scattered import AsyncScattered
from docket_runtime import outcomes, telemetry
from docket_runtime.claims import Claims
from docket_runtime.exchange import Exchange
from docket_runtime.housekeeping import Housekeeping
from docket_runtime.idle import IdleReader
from docket_runtime.leases import LeaseKeeper
from docket_runtime.outage import Outage
from docket_runtime.roll import Roll
from docket_runtime.scheduler import Schedule
from docket_runtime.shares import Share
from docket_runtime.signals import Signals

if TYPE_CHECKING:
    from docket_runtime.worker import Worker

_LOG = logging.getLogger("docket.worker")

T = TypeVar("T")

_AFTER_A_FAILURE = 0.2


class Desk:
    """`claims`: what the worker holds of this partition."""

    def __init__(self, worker: Worker, partition: Partition, claims: Claims) -> None:
        self._worker, self.partition, self.claims = worker, partition, claims
        docket = worker.docket
        self.keys, self.strikes = partition.keys, partition.strikes
        self.mark = f"{partition.number}|" if docket.core.partitions.split else ""
        """Tells an entry of this partition from one that is called alike in another, wherever both are named."""
        whole = docket.store
        self.store = AsyncStore(
            address_of(whole.address, self.keys),
            connections=2,
            traced=worker.settings.enable_internal_instrumentation,
        )
        self._listener: Listener = (
            whole.at(self.keys) if isinstance(whole, AsyncScattered) else whole
        ).listener
        self.roll = Roll(
            self.store,
            self.keys,
            worker.registry,
            worker.name,
            worker.settings,
            worker.lease_ms,
            bool(worker.limits_of_every_task),
            worker.family if docket.core.partitions.split else "",
        )
        self._listening = anyio.CancelScope()
        self._telling = False

    def assemble(self) -> None:
        """Fresh parts for each run: a run that has drained leaves quiet ones behind."""
        worker = self._worker
        settings, surroundings = worker.settings, worker.surroundings
        self.schedule = Schedule(settings.scheduling_resolution.total_seconds())
        self.outage = Outage(
            settings.reconnection_delay.total_seconds(),
            lambda: telemetry.count("REDIS_DISRUPTIONS", worker),
        )
        self.exchange = Exchange(
            self.store,
            self.keys,
            self,
            self.claims,
            self.schedule,
            self.outage,
            batch=settings.message_batch,
            free_threads=self._free_threads,
            quarantine=surroundings.quarantine,
            suspects=surroundings.suspects,
            standing_down=lambda: worker.surroundings.board.standing_down,
            crew_size=surroundings.crew,
        )
        if isinstance(self.claims, Share):
            self.claims.claimant = self.exchange
        self._reading = anyio.CancelScope()
        self.reader = IdleReader(self.store, self.keys, self.exchange, self.outage)
        self.exchange.free_the_slot_of_the_reader = lambda: self._group.start_soon(self.reader.unblock)

    def _free_threads(self) -> int:
        taken = self.claims.promised_to_others if isinstance(self.claims, Share) else 0
        return self._worker.free_threads() - taken

    @property
    def worker_id(self) -> str:
        return self.roll.worker_id

    # --- a run -----------------------------------------------------------------------------------------------------

    def keep_the_lease(self) -> None:
        """From when it is on the roll until `close`."""
        worker, loop = self._worker, asyncio.get_running_loop()
        self.keeper = LeaseKeeper(
            self.store.address,
            self.keys,
            interval=worker.renewal_interval,
            lease=worker.lease_ms,
            vouched=worker.surroundings.vouched,
            lapsed=lambda: loop.call_soon_threadsafe(self.exchange.reconnected),
        )

    def run(self, group: TaskGroup) -> None:
        """All that goes on here is under way, in this group."""
        worker = self._worker
        self._group = group
        self._exchanged = asyncio.Event()
        group.start_soon(self._exchange_until_over)
        if not worker.surroundings.quarantine:
            group.start_soon(self._read_when_idle)
        housekeeping = Housekeeping(
            self.store,
            self.keys,
            redelivery_timeout=worker.redelivery_timeout,
            max_crashes=worker.settings.max_crashes,
            vouched=worker.surroundings.vouched,
            suspected=lambda: self.exchange.look(SUSPECTS),
        )
        group.start_soon(housekeeping.run)

    async def _exchange_until_over(self) -> None:
        try:
            await self.exchange.run()
        finally:
            self._exchanged.set()

    async def _read_when_idle(self) -> None:
        with self._reading:
            await self.reader.run()

    async def leave(self) -> None:
        """Everything is settled."""
        self._reading.cancel()
        self.exchange.finish()
        await self._exchanged.wait()

    async def close(self) -> None:
        self.reader.close()
        self.keeper.close()

    async def retire(self) -> None:
        """What was still delivered to this worker goes back, and its name leaves the roll."""
        await self.roll.leave()

    async def join(self) -> bool:
        """On the roll for the first time. Cancelled half-way, it may be there already, and must not stay."""
        try:
            return await self._enlist(first=True)
        except BaseException:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1.0):
                await self.retire()
            raise

    async def _enlist(self, *, first: bool = False) -> bool:
        """The worker is on the roll under a fresh id, and work that only lacked its tasks is back in line.

        Waits for Redis; False if a drain was asked for meanwhile. A password that is refused at the very start is a
        mistake (AuthenticationFailed); later it may be one that is being changed.
        """
        self.roll.be_new()
        self.reader.worker_id = self.worker_id
        if not await self.insist(self.roll.enlist, first=first):
            return False
        self._worker.enlisted()
        self.keeper.keep(self.worker_id)
        return True

    def tell_of_new_tasks(self) -> None:
        """Those that were registered since it took its place on the roll, if there are any."""
        if self.roll.is_behind and not self._telling:
            self._telling = True
            self._group.start_soon(self._tell_of_new_tasks)

    async def _tell_of_new_tasks(self) -> None:
        try:
            await self.roll.tell_the_rest()
        except (RedisError, DocketError, OSError) as error:
            _LOG.debug("could not tell of new tasks, and tries again: %s", error)
        finally:
            self._telling = False

    async def insist(self, do: Callable[[], Awaitable[None]], *, first: bool) -> bool:
        """True as soon as it has been done; False if a drain was asked for meanwhile."""
        drain = self._worker.drain
        while True:
            try:
                await do()
                self.outage.over()
                return True
            except (RedisError, OSError) as error:
                ours = error if isinstance(error, DocketError) else translated(error, self.store.address.url)
                if first and isinstance(ours, AuthenticationFailed):
                    raise ours from error
                async with drain.unless_asked():
                    await self.outage.wait(error)
                if drain.asked.is_set():
                    return False

    async def persist(self, do: Callable[[], Awaitable[T]], what: str) -> T:
        """What that returns, as soon as Redis lets it be done; that it could not be is told once, as `what`.

        For what is asked beside the exchange. Raised in the group of a run, an error would end the exchange as well:
        what is in flight could not be settled any more, and would be run again. An outage is not begun by it: it is for
        the exchange to say whether Redis is away.
        """
        told = False
        while True:
            try:
                return await do()
            except (RedisError, DocketError, OSError) as error:
                if not told:
                    _LOG.warning("could not %s, and tries again: %s", what, error)
                told = True
            await asyncio.sleep(_AFTER_A_FAILURE)

    def listen(self) -> None:
        """To what is called out to this incarnation."""
        self._listening.cancel()
        self._listening = anyio.CancelScope()
        signals = Signals(self._listener, self.store, self.keys, self.claims, self.exchange, self.schedule)
        self._group.start_soon(self._hear, signals, self._listening, self.worker_id)

    async def _hear(self, signals: Signals, scope: anyio.CancelScope, worker_id: str) -> None:
        with scope:
            await signals.run(worker_id)

    # --- what the exchange asks ------------------------------------------------------------------------------------

    def begin(self, claimed: Claimed) -> None:
        self._worker.flights.begin(claimed, self)

    def return_unbegun(self, claimed: Claimed) -> None:
        self._worker.flights.settle(claimed, self, outcomes.RETURNED)

    async def heed(self, version: bytes | None) -> None:
        """What is begun from now on is judged by this version of the strikes; None: by those that are in effect now."""
        if version is None or version != self.strikes.rules.version:
            await self.store.perform(strikes.load(self.keys, self.strikes))

    async def lapse(self) -> None:
        """Struck off the roll: what is still running here is fenced; the worker goes on under another id."""
        _LOG.warning(
            "the lease of this worker (%s) lapsed: what it was running has been given to others, and its outcomes will "
            "be discarded",
            message.name_of(self.worker_id),
        )
        await self._stop_what_others_run()
        struck_off = self.worker_id
        await self._enlist()
        # It must read under the new id; what it was given under the old one meanwhile goes back at once.
        self.reader.close()
        await self.roll.leave(struck_off)
        self.listen()

    async def _stop_what_others_run(self) -> None:
        """Its outcome is refused in any case, and somebody may count on it that only so many run at once. What has no
        record any more is nobody's, and may as well come to its end."""
        flights = list(self.claims)
        if not flights:
            return
        entries = await self.store.ask(
            Commands([("HGET", self.keys.runs(flight.claimed.key), "entry") for flight in flights])
        )
        for flight, entry in zip(flights, entries, strict=True):
            if entry is not None and entry.decode() != flight.claimed.entry:
                self.claims.stop(flight.claimed.entry)

    def judged(self, entry: str, verdict: int) -> None:
        self._worker.gate.judged(entry, verdict)

    def superseded(self) -> None:
        telemetry.count("TASKS_SUPERSEDED", self._worker)

    def settled(self, key: str) -> None:
        if self._worker.flights.quota.is_used_up(key):
            self._group.start_soon(self._worker.flights.settled, key, self)
