"""The same docket without `await`: for Flask and Django code, scripts, and the threads of sync tasks.

Thread-safe. No event loop is involved: the operations are those of `docket.docket`, on blocking connections.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, Self, overload

import redis

from docket import results, scheduling
from docket.core import Core
from docket.execution import ExecutionView, TaskCall
from docket.registry import TaskFunction
from docket.settings import DEFAULT_NAME, DEFAULT_URL, DocketSettings
from docket.snapshot import DocketSnapshot, WorkerInfo
from docket.store.blocking import BlockingStore
from docket.store.connect import resolve
from docket.store.keys import Keys

P = ParamSpec("P")


class Execution(ExecutionView):
    """One scheduled call, from a thread."""

    __slots__ = ()

    def sync(self) -> None:
        """State, timestamps, worker and error are as Redis has them now."""
        self.learn(self.docket.store.perform(results.read_record(self.docket.keys, self.key)))

    def get_result(self, *, timeout: timedelta | None = None, deadline: datetime | None = None) -> Any:
        """As `docket.Execution.get_result`, blocking this thread."""
        limit = results.limit(timeout, deadline)
        return self.docket.store.perform(
            results.get_result(self.docket.keys, self.key, limit, kept=self.docket.execution_ttl)
        )


class Docket:
    """A docket whose methods block; see `docket.Docket` for what each of them means. Closed by `close()` or `with`."""

    def __init__(
        self,
        name: str = DEFAULT_NAME,
        url: str = DEFAULT_URL,
        heartbeat_interval: timedelta = timedelta(seconds=2),
        missed_heartbeats: int = 5,
        execution_ttl: timedelta = timedelta(minutes=15),
    ) -> None:
        self.settings = DocketSettings(name, url, heartbeat_interval, missed_heartbeats, execution_ttl)
        self.core: Core[Execution] = Core(self.settings, partial(Execution, self))
        self._store: BlockingStore | None = None

    @classmethod
    def beside(cls, settings: DocketSettings, core: Core[Any], store: BlockingStore) -> Self:
        """The blocking skin of a docket that is open already: it shares the tasks and does not own the store."""
        docket = cls.__new__(cls)
        docket.settings = settings
        docket.core = Core(settings, partial(Execution, docket))
        docket.core.registry = core.registry
        docket._store = store
        return docket

    def __enter__(self) -> Self:
        if self._store is not None:
            raise RuntimeError(f"the docket {self.name!r} is open already: it cannot be entered twice")
        self._store = BlockingStore(resolve(self.url))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        store, self._store = self.store, None
        store.close()
        if store.address.server is not None:
            store.address.server.release()

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def url(self) -> str:
        return self.settings.url

    @property
    def execution_ttl(self) -> timedelta:
        return self.settings.execution_ttl

    @property
    def store(self) -> BlockingStore:
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
        self, function: Callable[P, Any], when: datetime | None = None, key: str | None = None
    ) -> Callable[P, Execution]: ...
    @overload
    def add(
        self, function: str, when: datetime | None = None, key: str | None = None
    ) -> Callable[..., Execution]: ...
    def add(
        self, function: Callable[..., Any] | str, when: datetime | None = None, key: str | None = None
    ) -> Callable[..., Execution]:
        return self._scheduler(function, when, key, replace=False)

    @overload
    def replace(
        self, function: Callable[P, Any], when: datetime | None, key: str
    ) -> Callable[P, Execution]: ...
    @overload
    def replace(self, function: str, when: datetime | None, key: str) -> Callable[..., Execution]: ...
    def replace(
        self, function: Callable[..., Any] | str, when: datetime | None, key: str
    ) -> Callable[..., Execution]:
        return self._scheduler(function, when, key, replace=True)

    def _scheduler(
        self, function: Callable[..., Any] | str, when: datetime | None, key: str | None, *, replace: bool
    ) -> Callable[..., Execution]:
        prepared = self.core.prepare(function, when, key)

        def schedule(*args: Any, **kwargs: Any) -> Execution:
            call = self.core.call(prepared, args, kwargs)
            return self.store.perform(self.core.schedule_one(call, replace=replace))

        return schedule

    @overload
    def call(
        self, function: Callable[P, Any], when: datetime | None = None, key: str | None = None
    ) -> Callable[P, TaskCall]: ...
    @overload
    def call(
        self, function: str, when: datetime | None = None, key: str | None = None
    ) -> Callable[..., TaskCall]: ...
    def call(
        self, function: Callable[..., Any] | str, when: datetime | None = None, key: str | None = None
    ) -> Callable[..., TaskCall]:
        prepared = self.core.prepare(function, when, key)
        return lambda *args, **kwargs: self.core.call(prepared, args, kwargs)

    def add_many(self, calls: Iterable[TaskCall], *, chunk_size: int | None = 1000) -> list[Execution]:
        return self.store.perform(self.core.chunked(calls, chunk_size, replace=False))

    def replace_many(self, calls: Iterable[TaskCall], *, chunk_size: int | None = 1000) -> list[Execution]:
        return self.store.perform(self.core.chunked(calls, chunk_size, replace=True))

    def cancel(self, key: str) -> None:
        self.store.perform(scheduling.cancel(self.keys, key))

    def get_execution(self, key: str) -> Execution | None:
        return self.store.perform(self.core.get_execution(key))

    def clear(self) -> int:
        return self.store.perform(scheduling.clear(self.keys))

    def snapshot(self) -> DocketSnapshot[Execution]:
        return self.store.perform(self.core.snapshot())

    def workers(self) -> list[WorkerInfo]:
        return self.store.perform(self.core.workers())

    def task_workers(self, task_name: str) -> list[WorkerInfo]:
        return self.store.perform(self.core.task_workers(task_name))

    def dead_letters(self) -> list[Execution]:
        return self.store.perform(self.core.dead_letters())

    def retry_dead(self, key: str) -> bool:
        return self.store.perform(scheduling.retry_dead(self.keys, key))

    def purge_dead(self, keys: Sequence[str] | None = None) -> int:
        return self.store.perform(scheduling.purge_dead(self.keys, keys))

    @contextmanager
    def redis(self) -> Generator[redis.Redis]:
        yield redis.Redis(connection_pool=self.store.client.connection_pool)
