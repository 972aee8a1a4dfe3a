"""One worker: puts the parts together, and says what running means."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import secrets
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cache, partial
from types import TracebackType
from typing import Any, Self

import anyio

from docket import sync as blocking
from docket.context import current_docket, current_worker
from docket.dependencies.base import Dependency
from docket.dependencies.limits import Admission, limits_among
from docket.docket import Docket
from docket.partitions import served
from docket.registry import Registry, Task, TaskFunction, name_of, plan
from docket.store import scripts
from docket.store.blocking import BlockingStore
from docket.store.ledger import Ledger, in_one, lease_ms, renewal_interval
from docket.store.ledgers import AnyLedger, Ledgers
from docket.store.requests import Commands
from docket.store.scattered import AsyncScattered, BlockingScattered
from docket.telemetry import metering, tracing
from docket_runtime import lifecycles, telemetry
from docket_runtime.admission import Gate
from docket_runtime.automatic import AutomaticTasks
from docket_runtime.claims import Claims
from docket_runtime.desk import Desk
from docket_runtime.drain import Drain
from docket_runtime.exchange import Exchange
from docket_runtime.exits import contain
from docket_runtime.flights import Flights
from docket_runtime.heartbeat import Heartbeat
from docket_runtime.quiet import Quiet
from docket_runtime.quota import Quota
from docket_runtime.settings import WorkerSettings
from docket_runtime.shared import SharedValues
from docket_runtime.shares import Shares
from docket_runtime.surroundings import Surroundings
from docket_runtime.threads import Threads

_LOG = logging.getLogger("docket.worker")


@cache
def _look_ahead() -> None:
    """What a young process has due, and what would keep the loop for some dozen milliseconds each while tasks run: the
    texts of all scripts, and a full collection."""
    scripts.prepare()
    gc.collect()


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
    `partitions`: which of a docket that is split it serves (None: all). ValueError if a number makes no sense.

    Leaving its context ends a run that is still under way: it drains, and returns. An error that leaves the context
    waits five seconds for that at most; what still runs then is interrupted and handed back.
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
        partitions: Iterable[int] | None = None,
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
        if self.limits_of_every_task:
            docket.core.refuse_limits("this worker states one for every task")
        # Where a docket is split nothing is limited: then there is one desk.
        self.gate = Gate(lambda claimed, words: self.exchange.ask_admission(claimed, words))
        self.serves = served(docket.core.partitions, partitions)
        self.claims = Shares(concurrency, len(self.serves)) if len(self.serves) > 1 else Claims(concurrency)
        self.threads = Threads(self.settings.thread_count, f"docket {self.name}")
        self._is_running = False
        self.begins_anew = False
        """Its process is to be replaced, for a thread in it cannot be ended."""
        self.flights = Flights(self)
        self._opened: AsyncExitStack | None = None
        self.desks: Sequence[Desk] = ()
        self.family = secrets.token_hex(3)
        self.lease_ms = lease_ms(self.redelivery_timeout, self.renewal_interval)
        self._blocking: BlockingStore | BlockingScattered | None = None
        self._blocking_docket: blocking.Docket | None = None

    @property
    def worker_id(self) -> str:
        """Which incarnation of this worker is on the roll; empty before it first runs. On the rolls of several
        partitions there is one each: they are told in one, as `docket.store.ledger.ids_in` reads them."""
        return in_one([desk.worker_id for desk in self.desks])

    @property
    def exchange(self) -> Exchange:
        """That of its only partition, or of the first."""
        return self.desks[0].exchange

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
        if any(desk.outage.is_on for desk in self.desks):
            return "Redis is away"
        return "the worker is quiet or draining" if self.is_quiet else ""

    # --- opening and closing ---------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._opened is not None:
            raise RuntimeError(f"the worker {self.name!r} is open already: it cannot be entered twice")
        _look_ahead()
        async with AsyncExitStack() as stack:
            stack.callback(self.threads.close)
            stack.callback(self._close_blocking)
            self._loop = asyncio.get_running_loop()
            self.drain = Drain(self)
            for_each = self.claims.each if isinstance(self.claims, Shares) else [self.claims]
            self.desks = [
                Desk(self, partition, claims) for partition, claims in zip(self.serves, for_each, strict=True)
            ]
            for desk in self.desks:
                stack.push_async_callback(desk.store.close)
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
        if opened is None:
            return
        try:
            if self._is_running:
                # Who fails wants to hear of it, and would never do so beside a task that does not end.
                failed = exc is not None and not isinstance(exc, asyncio.CancelledError)
                (self.drain.ask_for_a_short_one if failed else self.drain.ask_as_set)()
                await self._run_ended.wait()
        finally:
            await opened.aclose()

    def _assemble(self) -> None:
        """Fresh parts for each run: a run that has drained leaves quiet ones behind."""
        board = telemetry.counting(self._surroundings.board, self.docket.name, self.name)
        self.surroundings = replace(self._surroundings, board=board)
        self.traced = tracing()
        self.drain.begin()
        self.quiet = Quiet(self)
        self.shared = SharedValues()
        for desk in self.desks:
            desk.assemble()

    @property
    def renewal_interval(self) -> timedelta:
        return min(renewal_interval(self.redelivery_timeout), self.docket.heartbeat_interval)

    def free_threads(self) -> int:
        """A claim may turn out to be a sync task, and must not wait here while another worker has a thread for it.
        But it may as well be an async one: if no thread is free one is claimed, unless such a one waits already."""
        if not self._has_sync_tasks():
            return self.concurrency
        # What was claimed a moment ago, by another partition's exchange perhaps, may need a thread as well.
        free = self.threads.free - sum(desk.claims.unbegun for desk in self.desks)
        return free or 1

    def _has_sync_tasks(self) -> bool:
        return self.threads.most < self.concurrency and self.registry.has_sync_tasks

    @property
    def blocking_docket(self) -> blocking.Docket:
        """The skin of the docket that sync tasks are given; it has a few connections of its own."""
        if self._blocking_docket is None:
            self._blocking = blocking.connected(
                self.docket.store.address,
                self.docket.core,
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
            seen: Sequence[object] = ()
            for desk in self.desks:
                desk.exchange.census_wanted = True
            while not self.drain.asked.is_set():
                for desk in self.desks:
                    desk.exchange.found_nothing.clear()
                    desk.exchange.wake()
                async with self.drain.unless_asked():
                    await self._found_nothing()
                if self._is_idle and all(desk.exchange.remaining == 0 for desk in self.desks):
                    before, seen = seen, await self._ever_scheduled()
                    if seen == before or len(self.desks) == 1:
                        return
                else:
                    seen = ()

    async def _ever_scheduled(self) -> Sequence[object]:
        """Changes with every call that is scheduled. Partitions are looked at one after another, and what ran in one
        may have added to another behind our back: only if nothing was added during a whole round, it was the end."""
        if len(self.desks) == 1:
            return ()
        seen: list[object] = []
        async with self.drain.unless_asked():
            for desk in self.desks:
                look = partial(desk.store.ask, Commands((("GET", desk.keys.generations),)))
                seen += await desk.persist(look, "ask whether anything was scheduled meanwhile")
        return seen

    async def run_until_empty(self) -> None:
        """Returns when this worker's own lanes hold nothing for it: how a quarantine worker runs."""
        async with self._running():
            while not self.drain.asked.is_set():
                async with self.drain.unless_asked():
                    await self.claims.emptied.wait()
                    if await self._looks_in_vain():
                        return

    async def _looks_in_vain(self) -> bool:
        """False if anything has been begun meanwhile: it may have added more behind the look of another desk."""
        for desk in self.desks:
            desk.exchange.stop_reading()
        # What a blocked reader was given is in no lane, and known only when its reply is here.
        await self.unblock()
        before = self.flights.begun
        for desk in self.desks:
            desk.exchange.found_nothing.clear()
            desk.exchange.read_again()
        await self._found_nothing()
        return self._is_idle and self.flights.begun == before

    def _ledger(self) -> AnyLedger:
        ledgers = {desk.partition.number: Ledger(desk.store, desk.keys) for desk in self.desks}
        return Ledgers(ledgers) if len(ledgers) > 1 else ledgers[self.desks[0].partition.number]

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
        self._assemble()
        for desk in self.desks:
            desk.keep_the_lease()
        release = contain(self._loop)
        self._is_running = True
        self._run_ended = asyncio.Event()
        ending = AsyncExitStack()
        ending.callback(self._run_ended.set)
        ending.callback(current_worker.reset, current_worker.set(self))
        ending.callback(current_docket.reset, current_docket.set(self.docket))
        around = await ending.enter_async_context(AsyncExitStack())
        ending.push_async_callback(self.shared.close)
        for desk in self.desks:
            ending.push_async_callback(desk.close)
        try:
            await lifecycles.begin(self, around)
            if not await self._joined():
                yield  # told to leave before Redis was ever there: nothing was claimed
                return
            async with anyio.create_task_group() as self._group:
                self.quiet.begin()
                for desk in self.desks:
                    desk.run(self._group)
                self._group.start_soon(Heartbeat(self).run)
                self._group.start_soon(self.quiet.run)
                if self.settings.schedule_automatic_tasks and not self.surroundings.quarantine:
                    self._group.start_soon(AutomaticTasks(self.docket, self.registry).run)
                if metering() and not self.surroundings.vouched():
                    self._group.start_soon(telemetry.Depths(self, self._ledger()).run)
                for desk in self.desks:
                    desk.listen()
                self.surroundings.board.phase(self.quiet.phase)
                try:
                    yield
                finally:
                    with anyio.CancelScope(shield=True):
                        await self._leave()
                    self._group.cancel_scope.cancel()
        finally:
            self._is_running = False
            release()
            await ending.aclose()

    async def _leave(self) -> None:
        await self.drain.run()
        # What has ended and is not settled runs again. So outcomes are given up with the drain, and not before.
        async with self.drain.in_time(), anyio.create_task_group() as leaving:
            for desk in self.desks:
                leaving.start_soon(desk.leave)
        if unsettled := sum(desk.exchange.unsettled for desk in self.desks):
            self.drain.give_up(unsettled)
        self.drain.end()
        if not self.drain.left_in_threads:
            await self._retire()
            self.surroundings.board.enlisted("")

    async def _joined(self) -> bool:
        """On the rolls of all its partitions. False: it was told to leave before they were all there."""
        if not await self.desks[0].insist(self._agree, first=True):
            return False
        joined: list[Desk] = []
        for desk in self.desks:
            if not await desk.join():
                await self._retire(joined)
                return False
            joined.append(desk)
        return True

    async def _agree(self) -> None:
        """PartitionsDiffer if the ledger is split otherwise than this docket."""
        store = self.docket.store
        if isinstance(store, AsyncScattered):
            await store.agree()
        else:
            await self.desks[0].store.perform(self.docket.core.partitions.agree())

    async def _retire(self, desks: Sequence[Desk] | None = None) -> None:
        for desk in self.desks if desks is None else desks:
            await desk.retire()

    def tell_of_new_tasks(self) -> None:
        for desk in self.desks:
            desk.tell_of_new_tasks()

    def enlisted(self) -> None:
        """One of its places on a roll is new."""
        self.surroundings.board.enlisted(self.worker_id)

    # --- all desks at once -----------------------------------------------------------------------------------------

    @property
    def is_quiet(self) -> bool:
        return self.exchange.quiet

    def be_quiet(self) -> None:
        for desk in self.desks:
            desk.exchange.be_quiet()

    def resume(self) -> None:
        for desk in self.desks:
            desk.exchange.resume()

    def look(self) -> None:
        """There may be something to claim, though nothing has been settled."""
        for desk in self.desks:
            desk.exchange.look()

    async def unblock(self) -> None:
        async with anyio.create_task_group() as group:
            for desk in self.desks:
                group.start_soon(desk.reader.unblock)

    async def _found_nothing(self) -> None:
        for desk in self.desks:
            await desk.exchange.found_nothing.wait()

    @property
    def _is_idle(self) -> bool:
        return not self.claims and all(desk.exchange.settled for desk in self.desks)
