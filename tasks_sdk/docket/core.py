"""What a docket is apart from its connections: its name, its tasks, and every operation on it, without any I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Generic, TypeVar

from docket import admission, clock, limits, priorities, scheduling, snapshot, strikes, telemetry, why
from docket.context import current_execution
from docket.errors import SchedulingFailed
from docket.execution import Disposition, ExecutionState, ExecutionView, TaskCall, fresh_key
from docket.limits import LimitInfo
from docket.message import Record
from docket.partitions import Partition, partitions
from docket.payload import Door, with_header
from docket.priorities import Priority
from docket.registry import Registry, Task, TaskFunction
from docket.results import read_all
from docket.resultstorage import AsyncKeyValue, ResultStorage
from docket.settings import DocketSettings
from docket.signatures import nonce_of
from docket.snapshot import DocketSnapshot, WorkerInfo
from docket.store import figures
from docket.store.connect import check as check_url
from docket.store.keys import Keys, singles
from docket.store.refusals import ForeignKey, foreign, in_words, names_of, types_of
from docket.store.requests import Operation, Together, read
from docket.strikelist import Restore, Strike, StrikeInstruction, StrikeList
from docket.tasks import standard_tasks
from docket.why import Why

E = TypeVar("E", bound=ExecutionView)
T = TypeVar("T")

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
        self.door = Door.of(settings)
        self.partitions = partitions(settings, StrikeList(self.door))
        self.keys = self.partitions.whole
        self.registry = Registry(self._refuse_limits if self.partitions.split else None)
        self.storage = (
            None if result_storage is None else ResultStorage(result_storage, self.results_collection)
        )
        for function in standard_tasks:
            self.registry.register(function)

    @property
    def results_collection(self) -> str:
        """In the result storage, which other dockets may share."""
        return self.keys.results_collection

    @property
    def strikes(self) -> StrikeList:
        """The rules as they were last read."""
        return self.partitions.strikes()

    def keys_of(self, key: str) -> Keys:
        """The names of all that belongs to the execution of this key."""
        return self.partitions.of(key).keys

    def _refuse_limits(self, task: Task) -> None:
        if task.limits:
            self.refuse_limits(f"{task.name} states one")

    def refuse_limits(self, why: str) -> None:
        """ValueError: each partition would admit as many as all together may be."""
        if self.partitions.split:
            raise ValueError(
                f"expected no limits on a docket that is split into partitions, but {why}: "
                "no two partitions are on one node of a cluster for sure, so nobody could count for all of them"
            )

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
        outcomes = yield from self._schedule_all(with_bodies, replace=replace, chunk=chunk)
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
                why = yield from self._why_refused(call, outcome.refusal)
                execution.schedule_exception = SchedulingFailed(f"cannot schedule {call.key!r}: {why}")
            if outcome.struck_by is not None:
                execution.error = outcome.struck_by.reason
            executions.append(execution)
        self._count(executions, replace)
        return executions

    def _schedule_all(
        self, calls: Sequence[tuple[TaskCall, bytes]], *, replace: bool, chunk: int
    ) -> Operation[list[scheduling.Scheduled]]:
        """In the order of the calls, whatever partitions they belong to."""
        if not self.partitions.split or len(calls) == 1:
            part = self.partitions.of(calls[0][0].key) if calls else self.partitions.parts[0]
            return (yield from self._schedule_in(part, calls, replace=replace, chunk=chunk))
        places: dict[int, list[int]] = {}
        for at, (call, _) in enumerate(calls):
            places.setdefault(self.partitions.of(call.key).number, []).append(at)
        replies = yield Together(
            [
                self._schedule_in(
                    self.partitions.parts[number], [calls[at] for at in some], replace=replace, chunk=chunk
                )
                for number, some in places.items()
            ]
        )
        found = {
            at: outcome
            for some, outcomes in zip(places.values(), replies, strict=True)
            for at, outcome in zip(some, outcomes, strict=True)
        }
        return [found[at] for at in range(len(calls))]

    def _schedule_in(
        self, part: Partition, calls: Sequence[tuple[TaskCall, bytes]], *, replace: bool, chunk: int
    ) -> Operation[list[scheduling.Scheduled]]:
        return scheduling.schedule(
            part.keys,
            self.registry,
            part.strikes,
            calls,
            self.settings.execution_ttl,
            replace=replace,
            inside=self._inside(),
            chunk=chunk,
        )

    def everywhere(self, operation: Callable[[Partition], Operation[T]]) -> Operation[list[T]]:
        """What comes of it in each partition."""
        if not self.partitions.split:
            return [(yield from operation(self.partitions.parts[0]))]
        return (yield Together([operation(part) for part in self.partitions.parts]))

    def _why_refused(self, call: TaskCall, refusal: str) -> Operation[ForeignKey | str]:
        """Names the key that holds something foreign, if that is the reason."""
        if "WRONGTYPE" not in refusal:
            return in_words(refusal)
        keys = self.keys_of(call.key)
        named = admission.known_to_the_caller(self.registry.get(call.function_name), call.args, call.kwargs)
        texts = [call.key, *(str(row[1]) for row in named or ())]
        names = [*names_of(keys, texts), *singles(keys)]
        return foreign(names, (yield types_of(names))) or in_words(refusal)

    def body_of(self, call: TaskCall, header: bytes) -> bytes:
        """What is written into the ledger for this call."""
        task = self.registry.get(call.function_name)
        parameters = () if task is None else task.given(len(call.args))
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
        record, progress = yield from read_all(self.keys_of(key), key)
        if record is None:
            yield from self.partitions.refuse_if_split()
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
        of_this_part: dict[str, E] = {}

        def forget(key: str) -> None:
            # What has moved while we looked is as it was last.
            running.pop(key, None)
            future.withdraw(key)
            of_this_part.pop(key, None)

        def live_one(record: Record) -> None:
            runs = record.state == ExecutionState.RUNNING
            execution = self.execution_of(record, self._make_running if runs else None)
            if see is not None:
                see(execution)
            forget(record.key)
            if runs:
                running[record.key] = execution
            else:
                future.offer(execution)

        def dead_one(record: Record) -> None:
            execution = self.execution_of(record)
            if see is not None:
                see(execution)
            forget(record.key)
            if limit is None or len(of_this_part) < limit:
                of_this_part[record.key] = execution

        most_each = None if see is not None else limit
        for part in self.partitions.parts:
            of_this_part = {}
            tour = snapshot.Tour(part.keys, live_one, dead_one, most_each)
            # Dead letters are looked for before and after: one may be retried meanwhile, or set aside.
            yield from tour.dead()
            yield from tour.live()
            if tour.is_whole and future.knows_all:
                yield from tour.once_more(lambda key: key in running or key in future)
            yield from tour.dead()
            dead += of_this_part.values()
        dead = self._oldest_first(dead)[:limit]
        waiting = future.chosen()
        total, omitted = len(waiting) + len(running), 0
        if limit is not None and (len(waiting) >= limit or len(dead) >= limit):
            counted = yield from self.figures()
            omitted = max(0, counted.backlog - len(waiting)) + max(0, counted.dead - len(dead))
            total = max(total, counted.backlog + len(running))
        if not (total or dead):
            yield from self.partitions.refuse_if_split()
        workers = yield from self.workers()
        return DocketSnapshot(clock.now(), total, waiting, list(running.values()), dead, workers, omitted)

    def dead_letters(self) -> Operation[list[E]]:
        found: list[E] = []
        for part in self.partitions.parts:
            yield from snapshot.dead_letters(
                part.keys, lambda record: found.append(self.execution_of(record))
            )
        if not found:
            yield from self.partitions.refuse_if_split()
        return self._oldest_first(found)

    def _oldest_first(self, dead: list[E]) -> list[E]:
        """As they are in each partition."""
        if not self.partitions.split:
            return dead
        return sorted(dead, key=lambda each: each.completed_at or clock.now())

    def workers(self) -> Operation[list[WorkerInfo]]:
        """Those whose lease holds and whose heartbeat was heard lately."""
        silence = self.settings.heartbeat_interval * self.settings.missed_heartbeats
        pages = yield from self.everywhere(lambda part: snapshot.workers(part.keys, silence))
        known = snapshot.joined(pages) if self.partitions.split else pages[0]
        if not known:
            yield from self.partitions.refuse_if_split()
        return known

    def task_workers(self, task: str) -> Operation[list[WorkerInfo]]:
        known = yield from self.workers()
        return [worker for worker in known if task in worker.tasks]

    def dead_keys(self) -> Operation[list[str]]:
        pages = yield from self.everywhere(lambda part: snapshot.dead_keys(part.keys))
        return [key for page in pages for key in page]

    def figures(self) -> Operation[figures.Figures]:
        """How much there is to do at this moment."""
        return figures.summed((yield from self.everywhere(lambda part: figures.figures(part.keys))))

    def cancel(self, key: str) -> Operation[str | None]:
        """Returns the state before."""
        before = yield from scheduling.cancel(self.keys_of(key), key)
        if before is None:
            yield from self.partitions.refuse_if_split()
        return before

    def clear(self) -> Operation[int]:
        cleared = sum((yield from self.everywhere(lambda part: scheduling.clear(part.keys))))
        if not cleared:
            yield from self.partitions.refuse_if_split()
        return cleared

    def purge_dead(self, dead: Sequence[str] | None) -> Operation[int]:
        """These, or all."""

        def purge(part: Partition) -> Operation[int]:
            if dead is None:
                return scheduling.purge_dead(part.keys, None)
            return scheduling.purge_dead(part.keys, [key for key in dead if self.partitions.of(key) is part])

        return sum((yield from self.everywhere(purge)))

    def why(self, key: str) -> Operation[Why]:
        part = self.partitions.of(key)
        said = yield from why.why(part.keys, key, part.strikes)
        if said.state is None:
            yield from self.partitions.refuse_if_split()
        return said

    def limits(self) -> Operation[list[LimitInfo]]:
        """None of a docket that is split: it has none."""
        if self.partitions.split:
            return []
        return (yield from limits.limits(self.keys))

    def set_limit(self, name: str, most: int | None) -> Operation[int | None]:
        self.refuse_limits(f"one named {name!r} is to be set")
        return (yield from limits.set_maximum(self.keys, name, most))

    def strike(self, rule: Strike) -> Operation[None]:
        yield from self.everywhere(lambda part: strikes.strike(part.keys, part.strikes, rule))

    def restore(self, instruction: Restore) -> Operation[bool]:
        found = yield from self.everywhere(lambda part: strikes.restore(part.keys, part.strikes, instruction))
        return any(found)

    def load_strikes(self) -> Operation[None]:
        yield from self.everywhere(lambda part: strikes.load(part.keys, part.strikes))

    def known_tasks(self, names: Sequence[str]) -> Operation[set[str]]:
        """Those of the names that some worker has ever enlisted with."""
        pages = yield from self.everywhere(lambda part: read("SMISMEMBER", part.keys.known, *names))
        return {name for page in pages for name, is_known in zip(names, page, strict=True) if is_known}

    def chunked(self, calls: Iterable[TaskCall], chunk_size: int | None, replace: bool) -> Operation[list[E]]:
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"expected chunk_size to be at least 1, got {chunk_size}")
        chunk = scheduling.CHUNK if chunk_size is None else min(chunk_size, scheduling.CHUNK)
        return (yield from self.schedule(list(calls), replace=replace, chunk=chunk))
