"""One scheduled call, as its client or its task holds it: what is known of it, and how to ask for more."""

from __future__ import annotations

import asyncio
import enum
import itertools
import os
import random
import string
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from docket import clock, events, message, payload, results
from docket.events import ExecutionEvent
from docket.events import ProgressEvent as ProgressEvent
from docket.events import StateEvent as StateEvent
from docket.message import Record
from docket.priorities import Priority
from docket.progress import ExecutionProgress as ExecutionProgress
from docket.progress import ProgressView
from docket.states import ExecutionState as ExecutionState
from docket.store.keys import raw_name

if TYPE_CHECKING:
    from docket.docket import Docket
    from docket.sync import Docket as BlockingDocket

TaskFunction = Callable[..., Any]


class Disposition(enum.StrEnum):
    """What came of asking for something to be scheduled."""

    LOADED = "loaded"
    SCHEDULED = "scheduled"
    ALREADY_SCHEDULED = "already_scheduled"
    STRUCK = "struck"
    SUPERSEDED = "superseded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class TaskCall:
    """A call that nobody has scheduled yet; made by `docket.call`, taken by `add_many` and agendas."""

    function_name: str
    function: TaskFunction | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    key: str = ""
    when: datetime | None = None
    priority: Priority = Priority.NORMAL
    automatic: bool = False
    """Nobody has asked for it: a dead letter of its key stays where it is."""


_DICE = random.SystemRandom()
_LETTERS = string.ascii_letters + string.digits


class _Keys:
    """Fresh keys: unique without asking the kernel for randomness each time, also after a fork."""

    def __init__(self) -> None:
        self.begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.begin)

    def begin(self) -> None:
        self._prefix = "".join(_DICE.choices(_LETTERS, k=12))
        self._counter = itertools.count()

    def __call__(self) -> str:
        return f"{self._prefix}-{next(self._counter):x}"


fresh_key = _Keys()


class ExecutionView:
    """What is known of one execution. The arguments are unpickled when somebody looks at them, not before."""

    __slots__ = (
        "_args",
        "_body",
        "_kwargs",
        "_nonce",
        "_progress",
        "attempt",
        "completed_at",
        "crashes",
        "disposition",
        "docket",
        "error",
        "function_name",
        "generation",
        "key",
        "message_id",
        "redelivered",
        "result_key",
        "schedule_exception",
        "started_at",
        "state",
        "when",
        "worker",
    )

    def __init__(
        self,
        docket: Docket | BlockingDocket,
        key: str,
        function_name: str,
        when: datetime,
        *,
        arguments: payload.Arguments | None = None,
        body: bytes = b"",
        nonce: bytes | None = None,
        state: ExecutionState = ExecutionState.SCHEDULED,
        generation: int = 0,
        disposition: Disposition = Disposition.LOADED,
    ) -> None:
        self.docket: Any = docket
        self.key = key
        self.function_name = function_name
        self.when = when
        self.state = state
        self.generation: int = generation
        self.disposition = disposition
        self._body: bytes = body
        self._nonce = nonce
        self._args, self._kwargs = arguments if arguments is not None else (None, None)
        self.attempt = 1
        self.redelivered = False
        self.crashes = 0
        self.worker: str | None = None
        self.started_at: datetime | None = None
        self.completed_at: datetime | None = None
        self.error: str | None = None
        self.result_key: str | None = None
        self.message_id: str | None = None
        self.schedule_exception: Exception | None = None
        self._progress: Any = None

    @property
    def progress(self) -> ProgressView:
        """How far it has come, as of the last `sync()`; the running execution itself reports with it."""
        raise NotImplementedError

    @property
    def args(self) -> tuple[Any, ...]:
        """Raises CannotLoad if the arguments cannot be unpickled in this process; Untrusted (one of them) if they are
        refused unread."""
        return self._arguments()[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        return self._arguments()[1]

    def _arguments(self) -> payload.Arguments:
        if self._args is None or self._kwargs is None:
            self._args, self._kwargs = self.docket.core.door.load_arguments(
                self.function_name, self.key, self._nonce, self._body
            )
        return self._args, self._kwargs

    @property
    def function(self) -> TaskFunction:
        """The registered function; for a name that this docket has not registered, a stand-in that refuses to run."""
        task = self.docket.registry.get(self.function_name)
        if task is not None:
            return task.function

        def unregistered(*args: Any, **kwargs: Any) -> None:
            raise LookupError(f"the task {self.function_name!r} is not registered in this process")

        unregistered.__name__ = self.function_name
        return unregistered

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Parameter → its value in this call, defaults included; of a task not registered here, what was named."""
        task = self.docket.registry.get(self.function_name)
        return self.kwargs if task is None else task.arguments(self.args, self.kwargs)

    def get_argument(self, name: str) -> Any:
        """The value that a parameter has in this call, its default included. KeyError if there is none."""
        return self.parameters[name]

    def learn(self, record: Record | None) -> None:
        """Takes over what the record says. No record: it has expired, and the execution is as if it had never begun."""
        if record is None:
            self.state = ExecutionState.SCHEDULED
            self.worker = self.started_at = self.completed_at = self.error = self.result_key = None
            return
        self.function_name = record.function
        # Of the same generation, but another call: it was refused because that one was there already.
        if record.generation != self.generation or record.body != self._body:
            self._body, self._args, self._kwargs = record.body, None, None
            self._nonce = record.nonce
        self.generation = record.generation
        self.state = ExecutionState(record.state)
        self.when = record.when
        self.attempt = record.attempt
        self.worker = None if record.worker_id is None else message.name_of(record.worker_id)
        self.started_at = record.started_at
        self.completed_at = record.completed_at
        self.error = record.error
        self.result_key = results.key_of(record)
        self.redelivered = record.redelivered > 0
        self.crashes = record.crashes

    def learn_all(self, replies: tuple[Record | None, Sequence[bytes | None]]) -> None:
        """From the reply to `results.read_all`."""
        record, progress = replies
        self.learn(record)
        self.progress.learn(progress)

    def __repr__(self) -> str:
        refused = self.disposition in (Disposition.STRUCK, Disposition.FAILED)
        stands = f"not scheduled: {self.disposition}" if refused else self.state
        return f"<{type(self).__name__} {self.function_name} {self.key!r} {stands}>"


class Execution(ExecutionView):
    """One scheduled call, from asyncio."""

    __slots__ = ()

    @property
    def progress(self) -> ExecutionProgress:
        """How far it has come, as of the last `sync()`; the running execution itself reports with it."""
        if self._progress is None:
            self._progress = ExecutionProgress(self.docket, self.key, self.message_id)
        return self._progress

    async def sync(self) -> None:
        """State, timestamps, worker, error and progress are as Redis has them now."""
        self.learn_all(
            await self.docket.store.perform(results.read_all(self.docket.core.keys_of(self.key), self.key))
        )

    def subscribe(self, *, ready: asyncio.Event | None = None) -> AsyncGenerator[ExecutionEvent]:
        """Its state as it is, its progress as it is, then every change, none lost and none twice, until it has ended.

        It follows the key: through retries, redeliveries and the turns of a perpetual task, and to the call that
        replaces this one. The state in which one of them ends for good is the last event. Reconnections are waited
        for; then it tells what has changed meanwhile. `ready` is set when no event can be missed any more.
        Raises ResultUnavailable if there is nothing to follow: expired, never existed, or `execution_ttl=0`.
        """
        return self.docket.store.stream(events.follow(self.docket.core.keys_of(self.key), self.key, ready))

    async def get_result(self, *, timeout: timedelta | None = None, deadline: datetime | None = None) -> Any:
        """What the task returned, once it has ended; what it raised is raised here, with the remote traceback as cause.

        Raises TimeoutError at the limit, ExecutionCancelled, DeadLetter if it was set aside, TaskFailed in place of an
        exception that cannot be rebuilt here, ResultUnavailable if none can come (expired, never kept),
        ResultStorageFailed if the result storage fails, ConnectionFailed if Redis cannot be reached: at first that is
        said at once, a later outage is waited for, up to a minute.
        """
        limit = results.limit(timeout, deadline)
        results.refuse_if_struck(self.disposition is Disposition.STRUCK, self.key, self.error)
        ended = await self.docket.store.perform(
            results.wait(self.docket.core.keys_of(self.key), self.key, limit, kept=self.docket.execution_ttl)
        )
        stored = ended.stored
        if ended.elsewhere is not None:
            storage = self.docket.core.storage or results.refuse_without_storage(ended)
            with results.in_time(self.key):
                stored = await storage.fetch(ended.elsewhere, results.patience(limit))
        return results.outcome_of(self.docket.core.door, ended.record, stored)


class RunningExecution(Execution):
    """One that ran when a snapshot was taken."""

    __slots__ = ()

    @property
    def started(self) -> datetime | None:
        """The same as `started_at`."""
        return self.started_at


def moment_of(when: datetime | None) -> int | None:
    """Checked where the mistake was made: a naive datetime, or something else, is refused with a sentence."""
    return None if when is None else clock.to_us(when, "when")


def refuse_what_is_no_text(key: str) -> None:
    """ValueError. What bytes that are no text are read as is taken: others may have written such a key."""
    try:
        raw_name(key)
    except UnicodeEncodeError:
        raise ValueError(f"expected text that UTF-8 can carry, got {key!r}") from None


def refuse_other_than_execution(given: object) -> None:
    """TypeError."""
    if not isinstance(given, ExecutionView):
        raise TypeError(f"expected an execution, got {given!r}")
