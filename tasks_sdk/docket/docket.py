"""The docket as asyncio code holds it: a named body of executions in one Redis."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, Self, overload

import anyio.to_thread
import redis.asyncio
from redis import CredentialProvider

from docket import scheduling, strikes, telemetry
from docket.core import Core
from docket.execution import (
    Execution,
    ExecutionView,
    TaskCall,
    refuse_other_than_execution,
    refuse_what_is_no_text,
)
from docket.execution import RunningExecution as RunningExecution
from docket.limits import LimitInfo
from docket.priorities import Priority
from docket.registry import TaskFunction
from docket.resultstorage import AsyncKeyValue
from docket.settings import DEFAULT_NAME, DEFAULT_URL, DocketSettings, SigningKeys
from docket.snapshot import DocketSnapshot as DocketSnapshot
from docket.snapshot import WorkerInfo as WorkerInfo
from docket.store import scripts
from docket.store.asynchronous import AsyncStore
from docket.store.connect import OWN_SCHEMES, Address, check, refuse_two_credentials, resolve
from docket.store.keys import Keys
from docket.store.scattered import AsyncScattered, stores_of
from docket.strikelist import Operator, Restore, Strike, StrikeList
from docket.why import Why

P = ParamSpec("P")

TaskCollection = Iterable[TaskFunction]


class Docket:
    """Work to be done, now or later, shared by everybody who opens the same name at the same URL.

    `url`: redis://, rediss://, unix://, redis+sentinel://host,host/SERVICE/DB, redis+cluster://host,host (both also as
    rediss+ for TLS; docs/redis.md), memory://name (a private server for this process tree, gone with it) or
    embedded:///dir (a real server in that directory; its data stays). `execution_ttl`: how long what has ended is
    kept; zero keeps nothing. `result_storage`: keeps results and exceptions in place of Redis, for as long; any store
    with the protocol of py-key-value. `enable_internal_instrumentation`: an OpenTelemetry instrumentation of redis-py
    sees docket's own commands, too. `signing_keys`: everything is signed with the first, and only what one of them has
    signed is ever loaded (None: those of DOCKET_SIGNING_KEYS). `serializer`: `pickle`, or `json`, and then nothing
    pickled is ever loaded (None: what DOCKET_SERIALIZER says). `credential_provider`: redis-py's, asked for user name
    and password at each connection; ValueError if the URL has them too, and without meaning for servers of our own.
    `partitions`: into how many parts, each a hash slot of its own, the docket is split, in Redis Cluster over as many
    nodes (docs/redis.md); the same wherever it is opened (PartitionsDiffer), and fixed when it is first used.
    Raises BadURL at once; ConnectionFailed and AuthenticationFailed come from the first call that needs Redis.
    """

    def __init__(
        self,
        name: str = DEFAULT_NAME,
        url: str = DEFAULT_URL,
        heartbeat_interval: timedelta = timedelta(seconds=2),
        missed_heartbeats: int = 5,
        execution_ttl: timedelta = timedelta(minutes=15),
        result_storage: AsyncKeyValue | None = None,
        enable_internal_instrumentation: bool = False,
        signing_keys: SigningKeys | None = None,
        serializer: str | None = None,
        credential_provider: CredentialProvider | None = None,
        partitions: int = 1,
    ) -> None:
        self.settings = DocketSettings(
            name,
            url,
            heartbeat_interval,
            missed_heartbeats,
            execution_ttl,
            enable_internal_instrumentation,
            signing_keys,
            serializer,
            partitions,
        )
        refuse_two_credentials(url, credential_provider)
        self._credential_provider = credential_provider
        self.core: Core[Execution] = Core(
            self.settings, partial(Execution, self), result_storage, partial(RunningExecution, self)
        )
        self._store: AsyncStore | AsyncScattered | None = None

    @classmethod
    def from_settings(cls, settings: DocketSettings, **more: Any) -> Self:
        """`more`: what cannot be said in settings, since it is no data."""
        return cls(
            settings.name,
            settings.url,
            settings.heartbeat_interval,
            settings.missed_heartbeats,
            settings.execution_ttl,
            enable_internal_instrumentation=settings.enable_internal_instrumentation,
            signing_keys=settings.keys,
            serializer=settings.serializer,
            partitions=settings.partitions,
            **more,
        )

    async def __aenter__(self) -> Self:
        if self._store is not None:
            raise RuntimeError(f"the docket {self.name!r} is open already: it cannot be entered twice")
        if check(self.url) in OWN_SCHEMES:
            address = await anyio.to_thread.run_sync(resolve, self.url, self.name)
        else:
            address = resolve(self.url, self.name, self._credential_provider)
        scripts.prepare_to_add()
        store = self._connected(address)
        if self.core.storage is not None:
            try:
                await self.core.storage.setup()
            except BaseException:
                await self._close(store)
                raise
        self._store = store
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        store, self._store = self.store, None
        await self._close(store)

    def _connected(self, address: Address) -> AsyncStore | AsyncScattered:
        make = partial(AsyncStore, traced=self.settings.enable_internal_instrumentation, wakeful=True)
        store, partitions = make(address), self.core.partitions
        if not partitions.split:
            return store
        stores = stores_of(store, [part.keys for part in partitions.parts], address, make)
        return AsyncScattered(store, stores, partitions.agree)

    async def _close(self, store: AsyncStore | AsyncScattered) -> None:
        await store.close()
        if store.address.server is not None:
            await anyio.to_thread.run_sync(store.address.server.release)

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def url(self) -> str:
        return self.settings.url

    @property
    def result_storage(self) -> AsyncKeyValue | None:
        """Where results are kept, if not in Redis."""
        return None if self.core.storage is None else self.core.storage.storage

    @property
    def results_collection(self) -> str:
        """The collection of the result storage that holds this docket's results."""
        return self.core.results_collection

    @property
    def execution_ttl(self) -> timedelta:
        return self.settings.execution_ttl

    @property
    def heartbeat_interval(self) -> timedelta:
        return self.settings.heartbeat_interval

    @property
    def missed_heartbeats(self) -> int:
        return self.settings.missed_heartbeats

    @property
    def store(self) -> AsyncStore | AsyncScattered:
        if self._store is None:
            raise RuntimeError(f"the docket {self.name!r} is not open: use `async with Docket(...)`")
        return self._store

    @property
    def keys(self) -> Keys:
        return self.core.keys

    @property
    def registry(self) -> Any:
        return self.core.registry

    @property
    def tasks(self) -> dict[str, TaskFunction]:
        """The registered functions by name; a copy."""
        return self.core.registry.functions()

    def register(self, function: TaskFunction, names: Iterable[str] | None = None) -> None:
        """The function can be added by name and run by workers. TypeError if it cannot be a task."""
        self.core.registry.register(function, names)

    def register_collection(self, reference: str) -> None:
        """Everything in `module:collection` is registered."""
        self.core.registry.register_collection(reference)

    @overload
    def add(
        self,
        function: Callable[P, Any],
        when: datetime | None = None,
        key: str | None = None,
        *,
        priority: Priority | str = Priority.NORMAL,
    ) -> Callable[P, Coroutine[Any, Any, Execution]]: ...
    @overload
    def add(
        self,
        function: str,
        when: datetime | None = None,
        key: str | None = None,
        *,
        priority: Priority | str = Priority.NORMAL,
    ) -> Callable[..., Coroutine[Any, Any, Execution]]: ...
    def add(
        self,
        function: Callable[..., Any] | str,
        when: datetime | None = None,
        key: str | None = None,
        *,
        priority: Priority | str = Priority.NORMAL,
    ) -> Callable[..., Coroutine[Any, Any, Execution]]:
        """Call the result with the task's arguments: then it is queued, or parked until `when` (aware; past means now).

        While an execution of the same key waits or runs nothing is added and its `disposition` is ALREADY_SCHEDULED;
        only the running execution itself may add its own key: its successor.
        """
        return self._scheduler(function, when, key, priority, replace=False)

    @overload
    def replace(
        self,
        function: Callable[P, Any],
        when: datetime | None,
        key: str,
        *,
        priority: Priority | str = Priority.NORMAL,
    ) -> Callable[P, Coroutine[Any, Any, Execution]]: ...
    @overload
    def replace(
        self, function: str, when: datetime | None, key: str, *, priority: Priority | str = Priority.NORMAL
    ) -> Callable[..., Coroutine[Any, Any, Execution]]: ...
    def replace(
        self,
        function: Callable[..., Any] | str,
        when: datetime | None,
        key: str,
        *,
        priority: Priority | str = Priority.NORMAL,
    ) -> Callable[..., Coroutine[Any, Any, Execution]]:
        """Call the result with the arguments: whatever waited under this key is replaced. What runs is not stopped; its
        end counts no more, and the new call begins after it."""
        return self._scheduler(function, when, key, priority, replace=True)

    def _scheduler(
        self,
        function: Callable[..., Any] | str,
        when: datetime | None,
        key: str | None,
        priority: Priority | str,
        *,
        replace: bool,
    ) -> Callable[..., Coroutine[Any, Any, Execution]]:
        prepared = self.core.prepare(function, when, key, priority, key_required=replace)

        async def schedule(*args: Any, **kwargs: Any) -> Execution:
            call = self.core.call(prepared, args, kwargs)
            with self.core.span("replace" if replace else "add", call):
                return await self.store.perform(self.core.schedule_one(call, replace=replace))

        return schedule

    @overload
    def call(
        self,
        function: Callable[P, Any],
        when: datetime | None = None,
        key: str | None = None,
        *,
        priority: Priority | str = Priority.NORMAL,
    ) -> Callable[P, TaskCall]: ...
    @overload
    def call(
        self,
        function: str,
        when: datetime | None = None,
        key: str | None = None,
        *,
        priority: Priority | str = Priority.NORMAL,
    ) -> Callable[..., TaskCall]: ...
    def call(
        self,
        function: Callable[..., Any] | str,
        when: datetime | None = None,
        key: str | None = None,
        *,
        priority: Priority | str = Priority.NORMAL,
    ) -> Callable[..., TaskCall]:
        """Like `add`, but only describes the call, for `add_many`."""
        prepared = self.core.prepare(function, when, key, priority)
        return lambda *args, **kwargs: self.core.call(prepared, args, kwargs)

    async def add_many(self, calls: Iterable[TaskCall], *, chunk_size: int | None = 1000) -> list[Execution]:
        """Batches instead of a round trip each; an execution for each call, in order. A call that Redis refuses has
        Disposition.FAILED and its `schedule_exception`, and does not keep the others from being scheduled."""
        with self.core.span("add_many"):
            return await self.store.perform(self.core.chunked(calls, chunk_size, replace=False))

    async def replace_many(
        self, calls: Iterable[TaskCall], *, chunk_size: int | None = 1000
    ) -> list[Execution]:
        with self.core.span("replace_many"):
            return await self.store.perform(self.core.chunked(calls, chunk_size, replace=True))

    async def schedule(self, execution: ExecutionView) -> Execution:
        """The same call (function, arguments, key, `when`) as `add` would schedule it. Returns its own handle: the one
        given is as it was. TypeError if it is no execution; CannotLoad if its arguments cannot be read here."""
        refuse_other_than_execution(execution)
        asked = self.add(execution.function_name, execution.when, execution.key)
        return await asked(*execution.args, **execution.kwargs)

    async def cancel(self, key: str) -> None:
        """Nothing of this key runs any more, or will. What runs is stopped: an async task by its cancellation, a sync
        one by its flag. The key can be used again at once; its next run begins when the old body has ended."""
        refuse_what_is_no_text(key)
        with self.core.span("cancel", key=key):
            was = await self.store.perform(self.core.cancel(key))
        telemetry.count_cancelled(self.name, was)

    async def get_execution(self, key: str) -> Execution | None:
        """None if there is no record: it never existed or has expired."""
        refuse_what_is_no_text(key)
        return await self.store.perform(self.core.get_execution(key))

    async def limits(self) -> list[LimitInfo]:
        """The limits that somebody holds a permit of or waits for."""
        return await self.store.perform(self.core.limits())

    async def set_limit(self, name: str, most: int) -> int | None:
        """The concurrency limit of this name, or all that have it in common, admits so many from now on, whatever the
        code says; 0 pauses it. What runs goes on. Returns what was set before; ValueError for less than nothing."""
        return await self.store.perform(self.core.set_limit(name, most))

    async def reset_limit(self, name: str) -> int | None:
        """It admits what the code says. Returns what was set before."""
        return await self.store.perform(self.core.set_limit(name, None))

    async def why(self, key: str) -> Why:
        """Why this execution is not running, in sentences."""
        refuse_what_is_no_text(key)
        return await self.store.perform(self.core.why(key))

    async def clear(self) -> int:
        """Everything that waits is cancelled; what runs goes on. Returns how many."""
        with self.core.span("clear"):
            return await self.store.perform(self.core.clear())

    async def snapshot(self, *, limit: int | None = None) -> DocketSnapshot[Execution]:
        """Everything waiting, running or set aside, whether or not its task is registered here. `limit`: of what waits,
        and of the dead letters, only the first are listed; `total_tasks` counts all, `omitted` those not listed."""
        return await self.store.perform(self.core.snapshot(limit))

    async def workers(self) -> list[WorkerInfo]:
        return await self.store.perform(self.core.workers())

    async def task_workers(self, task_name: str) -> list[WorkerInfo]:
        """The workers that can run this task."""
        return await self.store.perform(self.core.task_workers(task_name))

    async def dead_letters(self) -> list[Execution]:
        """What was set aside, the oldest first; `error` holds the cause."""
        return await self.store.perform(self.core.dead_letters())

    async def retry_dead(self, key: str) -> bool:
        """The dead letter is queued again with a clean record. False if there is none of this key."""
        refuse_what_is_no_text(key)
        return await self.store.perform(scheduling.retry_dead(self.core.keys_of(key), key))

    async def purge_dead(self, keys: Sequence[str] | None = None) -> int:
        """These dead letters, or all, are forgotten. Returns how many."""
        return await self.store.perform(self.core.purge_dead(keys))

    @property
    def strike_list(self) -> StrikeList:
        """The rules as they were last read: by a worker with its last claim, elsewhere when something was added."""
        return self.core.strikes

    async def strike(
        self,
        function: Callable[..., Any] | str | None = None,
        parameter: str | None = None,
        operator: Operator | str = Operator.EQUAL,
        value: Any = None,
        *,
        hold: bool = False,
    ) -> None:
        """These calls no longer run, on any worker, until they are restored: all of a task, or those in which a
        parameter, of this task or (no function) of any, compares like this with the value.

        Adding them writes nothing and gives Disposition.STRUCK; what waits already ends CANCELLED when its turn comes,
        with the rule as its error. With `hold` nothing is refused or cancelled: it is held when its turn comes, and
        runs after `restore`; `run_until_finished` does not wait for it. What runs already is not stopped. Rules are
        OR-ed; the same rule again replaces the former one. Who adds or claims after this has returned is judged by it.
        ValueError if neither function nor parameter is given; CannotStore if the value cannot be pickled.
        """
        name = strikes.function_name(function)
        rule = Strike(name, parameter, operator, value, hold)
        with self.core.span("strike", strike=rule):
            await self.store.perform(self.core.strike(rule))

    async def restore(
        self,
        function: Callable[..., Any] | str | None = None,
        parameter: str | None = None,
        operator: Operator | str = Operator.EQUAL,
        value: Any = None,
    ) -> bool:
        """The rule that `strike` made with the same arguments is lifted, whether or not it held; what it held runs.
        Other rules stay: one about a parameter has nothing to do with one about the whole task. False: there was none.
        """
        instruction = Restore(strikes.function_name(function), parameter, operator, value)
        with self.core.span("restore", strike=instruction):
            return await self.store.perform(self.core.restore(instruction))

    async def wait_for_strikes_loaded(self) -> None:
        """`strike_list` is as the ledger has it now. Only who looks at it needs this: whatever is added is judged by
        the rules in effect without it."""
        await self.store.perform(self.core.load_strikes())

    @asynccontextmanager
    async def redis(self) -> AsyncGenerator[redis.asyncio.Redis]:
        """A plain client on this docket's connections; replies are bytes. On a cluster it is a RedisCluster."""
        yield self.store.plain_client()
