"""What a docket is apart from its connections: its name, its tasks, and every operation on it, without any I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Generic, TypeVar

from docket import admission, clock, priorities, scheduling, snapshot, telemetry
from docket.context import current_execution
from docket.errors import SchedulingFailed
from docket.execution import Disposition, ExecutionState, ExecutionView, TaskCall, fresh_key
from docket.message import Record
from docket.payload import Door, with_header
from docket.priorities import Priority
from docket.registry import Registry, TaskFunction
from docket.results import read_all
from docket.resultstorage import AsyncKeyValue, ResultStorage
from docket.settings import DocketSettings
from docket.signatures import nonce_of
from docket.snapshot import DocketSnapshot, WorkerInfo
from docket.store import figures
from docket.store.connect import check as check_url
from docket.store.connect import keys_of
from docket.store.keys import singles
from docket.store.refusals import ForeignKey, foreign, names_of, types_of
from docket.store.requests import Operation
from docket.strikelist import StrikeInstruction, StrikeList
from docket.tasks import standard_tasks

E = TypeVar("E", bound=ExecutionView)

Prepared = tuple[TaskFunction | str, datetime | None, str, Priority]
"""All that is known of a call before its arguments are."""


class Core(Generic[E]):
    """`make` builds the kind of execution that belongs to the skin, given what `ExecutionView` takes; `running` builds
    those that a snapshot finds running."""

    def __init__(
        self,
        settings: DocketSettings,
        make: Callable[..., E],
        result_storage: AsyncKeyValue | None = None,
        running: Callable[..., E] | None = None,
    ) -> None:
        check_url(settings.url)
        self.settings = settings
        self.make = make
        self._make_running = running or make
        self.keys = keys_of(settings.name, settings.url)
        self.door = Door.of(settings)
        self.registry = Registry()
        self.strikes = StrikeList(self.door)
        self.storage = (
            None if result_storage is None else ResultStorage(result_storage, self.results_collection)
        )
        for function in standard_tasks:
            self.registry.register(function)

    @property
    def results_collection(self) -> str:
        """In the result storage, which other dockets may share."""
        return self.keys.results_collection

    def prepare(
        self,
        function: TaskFunction | str,
        when: datetime | None,
        key: str | None,
        priority: Priority | str | None = None,
        *,
        key_required: bool = False,
    ) -> Prepared:
        """What can be refused before the arguments are known is refused here; a fresh key is fixed here too."""
        if key is None and key_required:
            raise ValueError("expected the key of what is to be replaced, got None")
        scheduling.check(function, when, key)
        if not isinstance(function, str):
            self.registry.register(function)
        return function, when, fresh_key() if key is None else key, priorities.checked(priority)

    def call(
        self,
        prepared: Prepared,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> TaskCall:
        function, when, key, priority = prepared
        return scheduling.call_of(self.registry, function, when, key, args, dict(kwargs), priority)

    def schedule(
        self, calls: Sequence[TaskCall], *, replace: bool = False, chunk: int = scheduling.CHUNK
    ) -> Operation[list[E]]:
        """All calls, in batches; an execution for each, in order. A call that Redis refuses has Disposition.FAILED."""
        header = telemetry.header()
        with_bodies = [(call, self.body_of(call, header)) for call in calls]
        outcomes = yield from scheduling.schedule(
            self.keys,
            self.registry,
            self.strikes,
            with_bodies,
            self.settings.execution_ttl,
            replace=replace,
            inside=self._inside(),
            chunk=chunk,
        )
        executions: list[E] = []
        for (call, body), outcome in zip(with_bodies, outcomes, strict=True):
            execution = self.make(
                call.key,
                call.function_name,
                outcome.when or call.when or clock.now(),
                arguments=(call.args, call.kwargs),
                body=body,
                nonce=nonce_of(body),
                state=outcome.state,
                generation=outcome.generation,
                disposition=outcome.disposition,
            )
            if outcome.refusal is not None:
                why = (yield from self._why_refused(call, outcome.refusal)) or outcome.refusal
                execution.schedule_exception = SchedulingFailed(f"cannot schedule {call.key!r}: {why}")
            if outcome.struck_by is not None:
                execution.error = outcome.struck_by.reason
            executions.append(execution)
        self._count(executions, replace)
        return executions

    def _why_refused(self, call: TaskCall, refusal: str) -> Operation[ForeignKey | None]:
        """Which key holds something foreign, if that is the reason."""
        if "WRONGTYPE" not in refusal:
            return None
        limits = admission.known_to_the_caller(self.registry.get(call.function_name), call.args, call.kwargs)
        texts = [call.key, *(str(row[1]) for row in limits or ())]
        names = [*names_of(self.keys, texts), *singles(self.keys)]
        return foreign(names, (yield types_of(names)))

    def body_of(self, call: TaskCall, header: bytes) -> bytes:
        """What is written into the ledger for this call."""
        task = self.registry.get(call.function_name)
        parameters = () if task is None else task.parameters
        body = self.door.dump_arguments(call.args, call.kwargs, call.function_name, parameters)
        return self.door.sealed_call(call.function_name, call.key, with_header(header, body))

    def _count(self, executions: Sequence[E], replace: bool) -> None:
        if telemetry.metering():
            telemetry.count_scheduled(
                self.settings.name,
                [each.function_name for each in executions if each.disposition is Disposition.SCHEDULED],
                [each.function_name for each in executions if each.disposition is Disposition.STRUCK],
                replace=replace,
            )

    def span(
        self,
        verb: str,
        call: TaskCall | None = None,
        *,
        key: str = "",
        strike: StrikeInstruction | None = None,
    ) -> AbstractContextManager[Any]:
        """Around one operation of a client, if somebody wants traces."""
        if not telemetry.tracing():
            return telemetry.NOTHING
        attributes = {"docket.name": self.settings.name}
        if call is not None:
            attributes |= {"docket.task": call.function_name, "docket.key": call.key}
            if call.when is not None:
                attributes["docket.when"] = call.when.isoformat()
        if key:
            attributes["docket.key"] = key
        if strike is not None:
            # Without the value: it may be what somebody else's argument is.
            attributes |= {"docket.task": strike.function or "*", "docket.parameter": strike.parameter or "*"}
            attributes["docket.operator"] = str(strike.operator)
        return telemetry.span(verb, attributes)

    def schedule_one(self, call: TaskCall, *, replace: bool) -> Operation[E]:
        """SchedulingFailed if Redis refuses it."""
        (execution,) = yield from self.schedule([call], replace=replace)
        if execution.schedule_exception is not None:
            raise execution.schedule_exception
        return execution

    def _inside(self) -> tuple[str, str] | None:
        execution = current_execution.get(None)
        if execution is None or execution.message_id is None:
            return None
        same = execution.docket.keys.prefix == self.keys.prefix and execution.docket.url == self.settings.url
        return (execution.key, execution.message_id) if same else None

    def get_execution(self, key: str) -> Operation[E | None]:
        record, progress = yield from read_all(self.keys, key)
        if record is None:
            return None
        execution = self.execution_of(record)
        execution.progress.learn(progress)
        return execution

    def execution_of(self, record: Record, make: Callable[..., E] | None = None) -> E:
        execution = (make or self.make)(
            record.key,
            record.function,
            record.when,
            body=record.body,
            nonce=record.nonce,
            generation=record.generation,
        )
        execution.learn(record)
        return execution

    def snapshot(
        self, limit: int | None = None, see: Callable[[E], object] | None = None
    ) -> Operation[DocketSnapshot[E]]:
        """`see` is shown everything, also what is beyond the limit."""
        if limit is not None and limit < 0:
            raise ValueError(f"expected limit to be at least 0, got {limit}")
        future, running, dead = snapshot.FirstDue[E](limit), dict[str, E](), list[E]()

        def live_one(record: Record) -> None:
            runs = record.state == ExecutionState.RUNNING
            execution = self.execution_of(record, self._make_running if runs else None)
            if see is not None:
                see(execution)
            # What has moved while we looked is as it was last.
            running.pop(record.key, None)
            future.withdraw(record.key)
            if runs:
                running[record.key] = execution
            else:
                future.offer(execution)

        def dead_one(record: Record) -> None:
            execution = self.execution_of(record)
            if see is not None:
                see(execution)
            if limit is None or len(dead) < limit:
                dead.append(execution)

        most_each = None if see is not None else limit
        yield from snapshot.Tour(self.keys, live_one, most_each).live()
        yield from snapshot.Tour(self.keys, dead_one, most_each).dead()
        waiting = future.chosen()
        total, omitted = len(waiting) + len(running), 0
        if limit is not None and (len(waiting) >= limit or len(dead) >= limit):
            counted = yield from figures.figures(self.keys)
            omitted = max(0, counted.backlog - len(waiting)) + max(0, counted.dead - len(dead))
            total = max(total, counted.backlog + len(running))
        workers = yield from self.workers()
        return DocketSnapshot(clock.now(), total, waiting, list(running.values()), dead, workers, omitted)

    def dead_letters(self) -> Operation[list[E]]:
        found: list[E] = []
        yield from snapshot.Tour(self.keys, lambda record: found.append(self.execution_of(record))).dead()
        return found

    def workers(self) -> Operation[list[WorkerInfo]]:
        """Those whose lease holds and whose heartbeat was heard lately."""
        known = yield from snapshot.workers(self.keys)
        silence = self.settings.heartbeat_interval * self.settings.missed_heartbeats
        since = clock.now() - silence
        return [worker for worker in known if worker.last_seen >= since]

    def task_workers(self, task: str) -> Operation[list[WorkerInfo]]:
        known = yield from self.workers()
        return [worker for worker in known if task in worker.tasks]

    def chunked(self, calls: Iterable[TaskCall], chunk_size: int | None, replace: bool) -> Operation[list[E]]:
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"expected chunk_size to be at least 1, got {chunk_size}")
        chunk = scheduling.CHUNK if chunk_size is None else min(chunk_size, scheduling.CHUNK)
        return (yield from self.schedule(list(calls), replace=replace, chunk=chunk))
