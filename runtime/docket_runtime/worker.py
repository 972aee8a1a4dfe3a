"""One worker: puts the parts together, and says what running means."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import anyio
from redis.exceptions import RedisError

from docket import message, strikes
from docket import sync as blocking
from docket.context import current_docket, current_worker
from docket.dependencies.base import Dependency
from docket.dependencies.limits import Admission, limits_among
from docket.docket import Docket
from docket.errors import AuthenticationFailed
from docket.message import Claimed
from docket.registry import Registry, Task, TaskFunction, name_of, plan
from docket.store.asynchronous import AsyncStore
from docket.store.blocking import BlockingStore
from docket.store.connect import translated
from docket.store.ledger import Ledger, lease_ms, renewal_interval
from docket.store.requests import Commands
from docket.telemetry import metering, tracing
from docket_runtime import outcomes, telemetry
from docket_runtime.admission import Gate
from docket_runtime.automatic import AutomaticTasks
from docket_runtime.claims import Claims
from docket_runtime.drain import Drain
from docket_runtime.exchange import Exchange
from docket_runtime.exits import contain
from docket_runtime.flights import Flights
from docket_runtime.heartbeat import Heartbeat
from docket_runtime.housekeeping import Housekeeping
from docket_runtime.idle import IdleReader
from docket_runtime.leases import LeaseKeeper
from docket_runtime.outage import Outage
from docket_runtime.quiet import Quiet
from docket_runtime.quota import Quota
from docket_runtime.roll import Roll
from docket_runtime.scheduler import Schedule
from docket_runtime.settings import WorkerSettings
from docket_runtime.shared import SharedValues
from docket_runtime.signals import Signals
from docket_runtime.surroundings import Surroundings
from docket_runtime.threads import Threads

_LOG = logging.getLogger("docket.worker")


def _named(dependencies: Mapping[str, Any] | Sequence[Any] | None) -> tuple[tuple[str, Dependency], ...]:
    if isinstance(dependencies, Mapping):
        for name in dependencies:
            if name.startswith("__"):
                raise ValueError(f"expected names of worker dependencies not to begin with __, got {name!r}")
        named = dict(dependencies)
    else:
        named = {f"__worker_dependency_{i}": each for i, each in enumerate(dependencies or ())}
    for each in named.values():
        if not isinstance(each, Dependency):
            raise TypeError(f"expected dependencies such as Depends(...) around every task, got {each!r}")
    return tuple(named.items())


class Worker:
    """Runs the executions of a docket: async tasks on this event loop, sync tasks on its own threads.

    `concurrency` executions at once, of which `threads` (default: as many) sync ones. A claim whose worker is not
    heard of for `redelivery_timeout` is given to another worker; it is renewed for as long as the worker lives,
    however long a task takes. `fallback_task` is given what nobody here knows; without one it is set aside as a dead
    letter. `dependencies` (`[Depends(session)]`, or a mapping) are opened around every task. `drain_timeout`: how long
    a drain waits before it interrupts what runs (None: as long as it takes). `minimum_check_interval`,
    `scheduling_resolution` and `message_batch` are upper bounds, kept for users of the reference; nothing is polled.
    ValueError if a number makes no sense.
    """

    def __init__(
        self,
        docket: Docket,
        name: str | None = None,
        concurrency: int = 10,
        redelivery_timeout: timedelta = timedelta(minutes=5),
        reconnection_delay: timedelta = timedelta(seconds=5),
        minimum_check_interval: timedelta = timedelta(milliseconds=250),
        scheduling_resolution: timedelta = timedelta(milliseconds=250),
        schedule_automatic_tasks: bool = True,
        fallback_task: TaskFunction | None = None,
        message_batch: int = 1000,
        dependencies: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        threads: int | None = None,
        drain_timeout: timedelta | None = None,
        max_crashes: int = 3,
        enable_internal_instrumentation: bool = False,
        surroundings: Surroundings | None = None,
    ) -> None:
        self.settings = WorkerSettings(
            name=name,
            concurrency=concurrency,
            threads=threads,
            redelivery_timeout=redelivery_timeout,
            reconnection_delay=reconnection_delay,
            minimum_check_interval=minimum_check_interval,
            scheduling_resolution=scheduling_resolution,
            schedule_automatic_tasks=schedule_automatic_tasks,
            message_batch=message_batch,
            drain_timeout=drain_timeout,
            max_crashes=max_crashes,
            enable_internal_instrumentation=enable_internal_instrumentation,
        )
        self.docket = docket
        self._surroundings = self.surroundings = surroundings or Surroundings()
        self.traced = False
        self.name = name or f"{socket.gethostname()}#{os.getpid()}"
        self.registry: Registry = docket.core.registry
        self.fallback: Task | None = (
            None if fallback_task is None else plan(fallback_task, name_of(fallback_task))
        )
        named = _named(dependencies)
        self.around_every_task = tuple(each for each in named if not isinstance(each[1], Admission))
        self.limits_of_every_task = limits_among(named)
        self.gate = Gate(lambda claimed, words: self.exchange.ask_admission(claimed, words))
        self.claims = Claims(concurrency)
        self.threads = Threads(self.settings.thread_count, f"docket {self.name}")
        self._is_running = False
        self.begins_anew = False
        """Its process is to be replaced, for a thread in it cannot be ended."""
        self.flights = Flights(self)
        self._opened: AsyncExitStack | None = None
        self._roll: Roll | None = None
        self._blocking: BlockingStore | None = None
        self._blocking_docket: blocking.Docket | None = None
        self._listening = anyio.CancelScope()

    @property
    def roll(self) -> Roll:
        if self._roll is None:
            raise RuntimeError(f"the worker {self.name!r} is not open: use `async with Worker(...)`")
        return self._roll

    @property
    def worker_id(self) -> str:
        """Which incarnation of this worker is on the roll; empty before it first runs."""
        return self._roll.worker_id if self._roll is not None else ""

    @property
    def concurrency(self) -> int:
        return self.settings.concurrency

    @property
    def redelivery_timeout(self) -> timedelta:
        return self.settings.redelivery_timeout

    @property
    def hindrance(self) -> str:
        """Why it claims nothing at the moment, in a sentence; empty if it does."""
        if not self._is_running:
            return "the worker is not running"
        if self._outage.is_on:
            return "Redis is away"
        return "the worker is quiet or draining" if self.exchange.quiet else ""

    # --- opening and closing ---------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._opened is not None:
            raise RuntimeError(f"the worker {self.name!r} is open already: it cannot be entered twice")
        async with AsyncExitStack() as stack:
            self._store = AsyncStore(
                self.docket.store.address,
                connections=2,
                traced=self.settings.enable_internal_instrumentation,
            )
            stack.push_async_callback(self._store.close)
            stack.callback(self.threads.close)
            stack.callback(self._close_blocking)
            self._loop = asyncio.get_running_loop()
            self._lease_ms = lease_ms(self.redelivery_timeout, self._renewal_interval)
            self._roll = Roll(
                self._store,
                self.docket.keys,
                self.registry,
                self.name,
                self.settings,
                self._lease_ms,
                bool(self.limits_of_every_task),
            )
            self.drain = Drain(self)
            self._assemble()
            self._opened = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.aclose()

    def _assemble(self) -> None:
        """Fresh parts for each run: a run that has drained leaves quiet ones behind."""
        board = telemetry.counting(self._surroundings.board, self.docket.name, self.name)
        self.surroundings = replace(self._surroundings, board=board)
        self.traced = tracing()
        self.drain.begin()
        self.quiet = Quiet(self)
        self.shared = SharedValues()
        self._schedule = Schedule(self.settings.scheduling_resolution.total_seconds())
        longest_pause = self.settings.reconnection_delay.total_seconds()
        self._outage = Outage(longest_pause, lambda: telemetry.count("REDIS_DISRUPTIONS", self))
        self.exchange = Exchange(
            self._store,
            self.docket.keys,
            self,
            self.claims,
            self._schedule,
            self._outage,
            batch=self.settings.message_batch,
            free_threads=self._free_threads,
            quarantine=self.surroundings.quarantine,
            suspects=self.surroundings.suspects,
            standing_down=lambda: self.surroundings.board.standing_down,
            crew_size=self.surroundings.crew,
        )
        self._reading = anyio.CancelScope()
        self._reader = IdleReader(self._store, self.docket.keys, self.exchange, self._outage)
        self.exchange.free_the_slot_of_the_reader = lambda: self._group.start_soon(self._reader.unblock)

    @property
    def _renewal_interval(self) -> timedelta:
        return min(renewal_interval(self.redelivery_timeout), self.docket.heartbeat_interval)

    def _free_threads(self) -> int:
        """A claim may turn out to be a sync task, and must not wait here while another worker has a thread for it.
        But it may as well be an async one: if no thread is free one is claimed, unless such a one waits already."""
        if not self._has_sync_tasks():
            return self.concurrency
        return self.threads.free or 1

    def _has_sync_tasks(self) -> bool:
        return self.threads.most < self.concurrency and self.registry.has_sync_tasks

    @property
    def blocking_docket(self) -> blocking.Docket:
        """The skin of the docket that sync tasks are given; it has a few connections of its own."""
        if self._blocking_docket is None:
            self._blocking = BlockingStore(
                self.docket.store.address,
                connections=4,
                traced=self.docket.settings.enable_internal_instrumentation,
            )
            self._blocking_docket = blocking.Docket.beside(
                self.docket.settings, self.docket.core, self._blocking, self._run_on_loop
            )
        return self._blocking_docket

    def _run_on_loop(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        """For the threads of sync tasks."""
        return asyncio.run_coroutine_threadsafe(function(*args), self._loop).result()

    def _close_blocking(self) -> None:
        if self._blocking is not None:
            self._blocking.close()
            self._blocking = self._blocking_docket = None

    # --- running ---------------------------------------------------------------------------------------------------

    async def run_forever(self) -> None:
        """Runs until cancelled: then it drains, and the cancellation goes on."""
        async with self._running():
            await self.drain.asked.wait()

    async def run_until_finished(self) -> None:
        """Returns when nothing waits, is parked or runs any more, here or on any other worker."""
        async with self._running():
            self.exchange.census_wanted = True
            while not self.drain.asked.is_set():
                self.exchange.found_nothing.clear()
                self.exchange.wake()
                async with self.drain.unless_asked():
                    await self.exchange.found_nothing.wait()
                if self.exchange.remaining == 0 and not self.claims and self.exchange.settled:
                    return

    async def run_until_empty(self) -> None:
        """Returns when this worker's own lanes hold nothing for it: how a quarantine worker runs."""
        async with self._running():
            while not self.drain.asked.is_set():
                self.exchange.found_nothing.clear()
                self.exchange.look()
                async with self.drain.unless_asked():
                    await self.exchange.found_nothing.wait()
                    if not self.claims and self.exchange.settled:
                        return
                    await self.claims.emptied.wait()

    async def run_at_most(self, iterations_by_key: Mapping[str, int]) -> None:
        """Like `run_until_finished`, but each of these keys is run so many times at the most, and then cancelled."""
        self.flights.quota = Quota(iterations_by_key)
        try:
            await self.run_until_finished()
        finally:
            self.flights.quota = Quota()

    @asynccontextmanager
    async def _running(self) -> AsyncGenerator[None]:
        if self._opened is None:
            raise RuntimeError(f"the worker {self.name!r} is not open: use `async with Worker(...)`")
        if self._is_running:
            raise RuntimeError(f"the worker {self.name!r} is running already")
        self._is_running = True
        self._assemble()
        keeper = LeaseKeeper(
            self._store.address,
            self.docket.keys,
            interval=self._renewal_interval,
            lease=self._lease_ms,
            vouched=self.surroundings.vouched,
            lapsed=lambda: self._loop.call_soon_threadsafe(self.exchange.reconnected),
        )
        self._keeper = keeper
        release = contain(self._loop)
        tokens = (current_docket.set(self.docket), current_worker.set(self))
        try:
            if not await self._joined():
                yield  # told to leave before Redis was ever there: nothing was claimed
                return
            async with anyio.create_task_group() as self._group:
                self.quiet.begin()
                exchanging = asyncio.Event()
                self._group.start_soon(self._exchange_until_over, exchanging)
                if not self.surroundings.quarantine:
                    self._group.start_soon(self._read_when_idle)
                self._group.start_soon(Heartbeat(self).run)
                self._group.start_soon(self.quiet.run)
                self._group.start_soon(
                    Housekeeping(
                        self._store,
                        self.docket.keys,
                        redelivery_timeout=self.redelivery_timeout,
                        max_crashes=self.settings.max_crashes,
                        vouched=self.surroundings.vouched,
                    ).run
                )
                if self.settings.schedule_automatic_tasks and not self.surroundings.quarantine:
                    self._group.start_soon(AutomaticTasks(self.docket, self.registry).run)
                if metering() and not self.surroundings.vouched():
                    self._group.start_soon(telemetry.Depths(self, Ledger(self._store, self.docket.keys)).run)
                self._listen()
                self.surroundings.board.phase(self.quiet.phase)
                try:
                    yield
                finally:
                    with anyio.CancelScope(shield=True):
                        await self._leave(exchanging)
                    self._group.cancel_scope.cancel()
        finally:
            self._is_running = False
            release()
            await self._reader.close()
            keeper.close()
            await self.shared.close()
            current_docket.reset(tokens[0])
            current_worker.reset(tokens[1])

    async def _read_when_idle(self) -> None:
        with self._reading:
            await self._reader.run()

    async def _exchange_until_over(self, over: asyncio.Event) -> None:
        try:
            await self.exchange.run()
        finally:
            over.set()

    async def _leave(self, exchanged: asyncio.Event) -> None:
        await self.drain.run()
        self._reading.cancel()
        self.exchange.finish()
        with anyio.move_on_after(None if self.settings.drain_timeout is None else 2.0):
            await exchanged.wait()
        self.surroundings.board.phase("left")
        if not self.drain.left_in_threads:
            await self.retire()
            self.surroundings.board.enlisted("")

    async def _joined(self) -> bool:
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
        self._reader.worker_id = self.worker_id
        while True:
            try:
                await self.roll.enlist()
                self._outage.over()
                break
            except (RedisError, OSError) as error:
                ours = translated(error, self._store.address.url)
                if first and isinstance(ours, AuthenticationFailed):
                    raise ours from error
                async with self.drain.unless_asked():
                    await self._outage.wait(error)
                if self.drain.asked.is_set():
                    return False
        self.surroundings.board.enlisted(self.worker_id)
        self._keeper.keep(self.worker_id)
        return True

    def _listen(self) -> None:
        self._listening.cancel()
        self._listening = anyio.CancelScope()
        signals = Signals(
            self.docket.store.listener,
            self._store,
            self.docket.keys,
            self.claims,
            self.exchange,
            self._schedule,
        )
        self._group.start_soon(self._hear, signals, self._listening, self.worker_id)

    async def _hear(self, signals: Signals, scope: anyio.CancelScope, worker_id: str) -> None:
        with scope:
            await signals.run(worker_id)

    async def retire(self) -> None:
        """What was still delivered to this worker goes back, and its name leaves the roll."""
        await self.roll.leave()

    # --- what the exchange asks ------------------------------------------------------------------------------------

    def begin(self, claimed: Claimed) -> None:
        self.flights.begin(claimed)

    def return_unbegun(self, claimed: Claimed) -> None:
        self.flights.settle(claimed, outcomes.RETURNED)

    async def heed(self, version: bytes | None) -> None:
        """What is begun from now on is judged by this version of the strikes; None: by those that are in effect now."""
        if version is None or version != self.docket.core.strikes.rules.version:
            await self._store.perform(strikes.load(self.docket.keys, self.docket.core.strikes))

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
        await self._reader.close()
        await self.roll.leave(struck_off)
        self._listen()

    async def _stop_what_others_run(self) -> None:
        """Its outcome is refused in any case, and somebody may count on it that only so many run at once. What has no
        record any more is nobody's, and may as well come to its end."""
        flights = list(self.claims)
        if not flights:
            return
        entries = await self._store.ask(
            Commands([("HGET", self.docket.keys.runs(flight.claimed.key), "entry") for flight in flights])
        )
        for flight, entry in zip(flights, entries, strict=True):
            if entry is not None and entry.decode() != flight.claimed.entry:
                self.claims.stop(flight.claimed.entry)

    def judged(self, entry: str, verdict: int) -> None:
        self.gate.judged(entry, verdict)

    def superseded(self) -> None:
        telemetry.count("TASKS_SUPERSEDED", self)

    def settled(self, key: str) -> None:
        if self.flights.quota.is_used_up(key):
            self._group.start_soon(self.flights.settled, key)

    async def unblock(self) -> None:
        await self._reader.unblock()
