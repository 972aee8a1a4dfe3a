"""The same docket without `await`: for Flask and Django code, scripts, and the threads of sync tasks.

Thread-safe. No event loop is involved: the operations are those of `docket.docket`, on blocking connections.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

import redis
from redis import CredentialProvider

from docket import events, results, scheduling, strikes, telemetry
from docket.core import Core
from docket.events import ExecutionEvent
from docket.execution import (
    Disposition,
    ExecutionView,
    TaskCall,
    refuse_other_than_execution,
    refuse_what_is_no_text,
)
from docket.limits import LimitInfo
from docket.priorities import Priority
from docket.progress import ProgressView
from docket.registry import TaskFunction
from docket.resultstorage import AsyncKeyValue
from docket.settings import DEFAULT_NAME, DEFAULT_URL, DocketSettings, SigningKeys
from docket.snapshot import DocketSnapshot, WorkerInfo
from docket.store import scripts
from docket.store.blocking import BlockingStore
from docket.store.connect import Address, refuse_two_credentials, resolve
from docket.store.keys import Keys
from docket.store.scattered import BlockingScattered, stores_of
from docket.strikelist import Operator, Restore, Strike, StrikeList
from docket.why import Why

P = ParamSpec("P")
T = TypeVar("T")

RunOnLoop = Callable[..., Any]


class ExecutionProgress(ProgressView):
    """The progress of one execution, from a thread; see `docket.execution.ExecutionProgress`."""

    __slots__ = ()

    def set_total(self, total: int) -> None:
        self._docket.store.perform(self._set_total(total))

    def increment(self, amount: int = 1) -> None:
        self._docket.store.perform(self._increment(amount))

    def set_message(self, message: str | None) -> None:
        self._docket.store.perform(self._set_message(message))

    def sync(self) -> None:
        self._docket.store.perform(self._read())


class Execution(ExecutionView):
    """One scheduled call, from a thread."""

    __slots__ = ()

    @property
    def progress(self) -> ExecutionProgress:
        """How far it has come, as of the last `sync()`; the running execution itself reports with it."""
        if self._progress is None:
            self._progress = ExecutionProgress(self.docket, self.key, self.message_id)
        return self._progress

    def sync(self) -> None:
        """State, timestamps, worker, error and progress are as Redis has them now."""
        self.learn_all(
            self.docket.store.perform(results.read_all(self.docket.core.keys_of(self.key), self.key))
        )

    def subscribe(self, *, ready: threading.Event | None = None) -> Generator[ExecutionEvent]:
        """As `docket.Execution.subscribe`, blocking this thread between the events."""
        return self.docket.store.stream(events.follow(self.docket.core.keys_of(self.key), self.key, ready))

    def get_result(self, *, timeout: timedelta | None = None, deadline: datetime | None = None) -> Any:
        """As `docket.Execution.get_result`, blocking this thread."""
        limit = results.limit(timeout, deadline)
        results.refuse_if_struck(self.disposition is Disposition.STRUCK, self.key, self.error)
        ended = self.docket.store.perform(
            results.wait(self.docket.core.keys_of(self.key), self.key, limit, kept=self.docket.execution_ttl)
        )
        stored = ended.stored
        if ended.elsewhere is not None:
            storage = self.docket.core.storage or results.refuse_without_storage(ended)
            with results.in_time(self.key):
                stored = self.docket.run_on_loop(storage.fetch, ended.elsewhere, results.patience(limit))
        return results.outcome_of(self.docket.core.door, ended.record, stored)


class RunningExecution(Execution):
    """One that ran when a snapshot was taken."""

    __slots__ = ()

    @property
    def started(self) -> datetime | None:
        """The same as `started_at`."""
        return self.started_at


def connected(address: Address, core: Core[Any], **options: Any) -> BlockingStore | BlockingScattered:
    """`options`: those of `BlockingStore`, of each."""
    make = partial(BlockingStore, **options)
    store, partitions = make(address), core.partitions
    if not partitions.split:
        return store
    stores = stores_of(store, [part.keys for part in partitions.parts], address, make)
    return BlockingScattered(store, stores, partitions.agree)


class Docket:
    """A docket whose methods block; see `docket.Docket` for what each of them means. Closed by `close()` or `with`.

    A `result_storage` is asynchronous: it is set up and asked on an event loop of its own, in a thread that lives as
    long as the docket is open. Give it to no other docket.
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
        self._store: BlockingStore | BlockingScattered | None = None
        self._resources = ExitStack()
        self._run_on_loop: RunOnLoop | None = None

    @classmethod
    def beside(
        cls,
        settings: DocketSettings,
        core: Core[Any],
        store: BlockingStore | BlockingScattered,
        run_on_loop: RunOnLoop,
    ) -> Self:
        """The blocking skin of a docket that is open already: it shares the tasks and does not own the store.
        `run_on_loop`: carries a coroutine function out on the loop to which the result storage belongs."""
        docket = cls.__new__(cls)
        docket.settings = settings
        docket._credential_provider = None  # asked by the store's connections, which are not its own
        docket.core = Core(settings, partial(Execution, docket), running=partial(RunningExecution, docket))
        docket.core.registry = core.registry
        docket.core.partitions = core.partitions
        docket.core.storage = core.storage
        docket.core.door = core.door
        docket._store = store
        docket._resources = ExitStack()
        docket._run_on_loop = run_on_loop
        return docket

    def __enter__(self) -> Self:
        if self._store is not None:
            raise RuntimeError(f"the docket {self.name!r} is open already: it cannot be entered twice")
        scripts.prepare_to_add()
        with ExitStack() as opening:
            store = connected(
                resolve(self.url, self.name, self._credential_provider),
                self.core,
                traced=self.settings.enable_internal_instrumentation,
            )
            if store.address.server is not None:
                opening.callback(store.address.server.release)
            opening.callback(store.close)
            if self.core.storage is not None:
                # The storage is asynchronous, and belongs to one loop: it gets one, in a thread of its own. Nobody else
                # needs to load what that takes.
                from anyio.from_thread import start_blocking_portal

                portal = opening.enter_context(start_blocking_portal())
                portal.call(self.core.storage.setup)
                self._run_on_loop = portal.call
            self._store = store
            self._resources = opening.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        _ = self.store  # refuses what is not open
        self._store = self._run_on_loop = None
        self._resources.close()

    def run_on_loop(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Of the result storage, which is asynchronous, from this thread."""
        if self._run_on_loop is None:
            raise RuntimeError(f"the docket {self.name!r} is not open: use `with Docket(...)`")
        return self._run_on_loop(function, *args)

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
    def store(self) -> BlockingStore | BlockingScattered:
        if self._store is None:
            raise RuntimeError(f"the docket {self.name!r} is not open: use `with Docket(...)`")
        return self._store

    @property
    def keys(self) -> Keys:
        return self.core.keys

    @property
    def registry(self) -> Any:
        return self.core.registry

    @property
    def tasks(self) -> dict[str, TaskFunction]:
        return self.core.registry.functions()

    def register(self, function: TaskFunction, names: Iterable[str] | None = None) -> None:
        self.core.registry.register(function, names)

    def register_collection(self, reference: str) -> None:
        self.core.registry.register_collection(reference)

    @overload
    def add(
        self,
        function: Callable[P, Any],
        when: datetime | None = None,
        key: str | None = None,
        *,
        priority: Priority | str = Priority.NORMAL,
    ) -> Callable[P, Execution]: ...
    @overload
    def add(
        self,
        function: str,
        when: datetime | None = None,
        key: str | None = None,
        *,
        priority: Priority | str = Priority.NORMAL,
    ) -> Callable[..., Execution]: ...
    def add(
        self,
        function: Callable[..., Any] | str,
        when: datetime | None = None,
        key: str | None = None,
        *,
        priority: Priority | str = Priority.NORMAL,
    ) -> Callable[..., Execution]:
        return self._scheduler(function, when, key, priority, replace=False)

    @overload
    def replace(
        self,
        function: Callable[P, Any],
        when: datetime | None,
        key: str,
        *,
        priority: Priority | str = Priority.NORMAL,
    ) -> Callable[P, Execution]: ...
    @overload
    def replace(
        self, function: str, when: datetime | None, key: str, *, priority: Priority | str = Priority.NORMAL
    ) -> Callable[..., Execution]: ...
    def replace(
        self,
        function: Callable[..., Any] | str,
        when: datetime | None,
        key: str,
        *,
        priority: Priority | str = Priority.NORMAL,
    ) -> Callable[..., Execution]:
        return self._scheduler(function, when, key, priority, replace=True)

    def _scheduler(
        self,
        function: Callable[..., Any] | str,
        when: datetime | None,
        key: str | None,
        priority: Priority | str,
        *,
        replace: bool,
    ) -> Callable[..., Execution]:
        prepared = self.core.prepare(function, when, key, priority, key_required=replace)

        def schedule(*args: Any, **kwargs: Any) -> Execution:
            call = self.core.call(prepared, args, kwargs)
            with self.core.span("replace" if replace else "add", call):
                return self.store.perform(self.core.schedule_one(call, replace=replace))

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
        prepared = self.core.prepare(function, when, key, priority)
        return lambda *args, **kwargs: self.core.call(prepared, args, kwargs)

    def add_many(self, calls: Iterable[TaskCall], *, chunk_size: int | None = 1000) -> list[Execution]:
        with self.core.span("add_many"):
            return self.store.perform(self.core.chunked(calls, chunk_size, replace=False))

    def replace_many(self, calls: Iterable[TaskCall], *, chunk_size: int | None = 1000) -> list[Execution]:
        with self.core.span("replace_many"):
            return self.store.perform(self.core.chunked(calls, chunk_size, replace=True))

    def schedule(self, execution: ExecutionView) -> Execution:
        """As `docket.Docket.schedule`."""
        refuse_other_than_execution(execution)
        asked = self.add(execution.function_name, execution.when, execution.key)
        return asked(*execution.args, **execution.kwargs)

    def cancel(self, key: str) -> None:
        refuse_what_is_no_text(key)
        with self.core.span("cancel", key=key):
            was = self.store.perform(self.core.cancel(key))
        telemetry.count_cancelled(self.name, was)

    def get_execution(self, key: str) -> Execution | None:
        refuse_what_is_no_text(key)
        return self.store.perform(self.core.get_execution(key))

    def limits(self) -> list[LimitInfo]:
        """The limits that somebody holds a permit of or waits for."""
        return self.store.perform(self.core.limits())

    def set_limit(self, name: str, most: int) -> int | None:
        """The concurrency limit of this name, or all that have it in common, admits so many from now on, whatever the
        code says; 0 pauses it. What runs goes on. Returns what was set before; ValueError for less than nothing."""
        return self.store.perform(self.core.set_limit(name, most))

    def reset_limit(self, name: str) -> int | None:
        """It admits what the code says. Returns what was set before."""
        return self.store.perform(self.core.set_limit(name, None))

    def why(self, key: str) -> Why:
        """Why this execution is not running, in sentences."""
        refuse_what_is_no_text(key)
        return self.store.perform(self.core.why(key))

    def clear(self) -> int:
        with self.core.span("clear"):
            return self.store.perform(self.core.clear())

    def snapshot(self, *, limit: int | None = None) -> DocketSnapshot[Execution]:
        return self.store.perform(self.core.snapshot(limit))

    def workers(self) -> list[WorkerInfo]:
        return self.store.perform(self.core.workers())

    def task_workers(self, task_name: str) -> list[WorkerInfo]:
        return self.store.perform(self.core.task_workers(task_name))

    def dead_letters(self) -> list[Execution]:
        return self.store.perform(self.core.dead_letters())

    def retry_dead(self, key: str) -> bool:
        refuse_what_is_no_text(key)
        return self.store.perform(scheduling.retry_dead(self.core.keys_of(key), key))

    def purge_dead(self, keys: Sequence[str] | None = None) -> int:
        return self.store.perform(self.core.purge_dead(keys))

    @property
    def strike_list(self) -> StrikeList:
        """The rules as they were last read: by a worker with its last claim, elsewhere when something was added."""
        return self.core.strikes

    def strike(
        self,
        function: Callable[..., Any] | str | None = None,
        parameter: str | None = None,
        operator: Operator | str = Operator.EQUAL,
        value: Any = None,
        *,
        hold: bool = False,
    ) -> None:
        """As `docket.Docket.strike`. No thread runs for it: Redis tells, in the round trip of each `add`, whether the
        rules have changed since they were read, and then they are read and the calls judged again."""
        name = strikes.function_name(function)
        rule = Strike(name, parameter, operator, value, hold)
        with self.core.span("strike", strike=rule):
            self.store.perform(self.core.strike(rule))

    def restore(
        self,
        function: Callable[..., Any] | str | None = None,
        parameter: str | None = None,
        operator: Operator | str = Operator.EQUAL,
        value: Any = None,
    ) -> bool:
        """As `docket.Docket.restore`."""
        instruction = Restore(strikes.function_name(function), parameter, operator, value)
        with self.core.span("restore", strike=instruction):
            return self.store.perform(self.core.restore(instruction))

    def wait_for_strikes_loaded(self) -> None:
        """As `docket.Docket.wait_for_strikes_loaded`."""
        self.store.perform(self.core.load_strikes())

    @contextmanager
    def redis(self) -> Generator[redis.Redis]:
        yield self.store.plain_client()
