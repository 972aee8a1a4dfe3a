"""How an execution's end is waited for, and what comes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn, TypeVar

from docket import clock, durations, payload, progress, resultstorage
from docket.errors import CannotLoad, DeadLetter, ExecutionCancelled, ResultUnavailable, TaskFailed
from docket.events import StateEvent, parse
from docket.message import FIELDS, Record, parse_record
from docket.states import ExecutionState
from docket.store.keys import Keys
from docket.store.requests import SUBSCRIBED, Attempt, Commands, NextEvent, Operation

T = TypeVar("T")

_ELSEWHERE = " elsewhere"
_EXCEPTIONS = ("exception", "exception" + _ELSEWHERE)

_LOOK_AGAIN = 60.0
"""Seconds after which a waiter looks at the record even without an event: it may have vanished without one."""

_TRY_AGAIN = 0.5
"""Seconds between a waiter's looks while Redis is away."""

_LONGEST_OUTAGE = 60.0
"""Seconds without Redis after which a waiter gives up."""


def read_all(keys: Keys, key: str) -> Operation[tuple[Record | None, Sequence[bytes | None]]]:
    """The record and the progress."""
    replies = yield Commands(
        (("HMGET", keys.runs(key), *FIELDS), ("HMGET", keys.progress(key), *progress.FIELDS))
    )
    return parse_record(key, replies[0]), replies[1]


def limit(timeout: timedelta | None, deadline: datetime | None) -> float | None:
    """The monotonic instant at which to give up; -inf if it is over already. ValueError if both are given."""
    if timeout is not None and deadline is not None:
        raise ValueError("expected timeout or deadline, got both")
    if deadline is not None:
        timeout = clock.from_us(clock.to_us(deadline, "deadline")) - clock.now()
    if timeout is None:
        return None
    left = durations.a_span(timeout, "timeout")
    return clock.monotonic() + left.total_seconds() if left > timedelta(0) else -math.inf


def refuse_if_struck(struck: bool, key: str, error: str | None) -> None:
    """What was refused has no record of its own; one of the same key would be that of another call."""
    if struck:
        raise ExecutionCancelled(error or f"the execution {key!r} was struck when it was asked for")


@dataclass(frozen=True, slots=True)
class Ended:
    """An execution's end, and what Redis holds of its result."""

    record: Record
    stored: bytes | None

    @property
    def elsewhere(self) -> str | None:
        """The name under which the result lies in the result storage, if it lies there."""
        record = self.record
        if record.result is None or not record.result.endswith(_ELSEWHERE) or record.entry is None:
            return None
        return resultstorage.name_of(record.key, record.generation, record.entry)


def key_of(record: Record) -> str | None:
    """Under which name a result is kept, wherever that is."""
    return (Ended(record, None).elsewhere or record.key) if record.result else None


def wait(keys: Keys, key: str, until: float | None, *, kept: timedelta) -> Operation[Ended]:
    """The end of the run that the key names at first, or of what follows it in its place.

    What replaces a run, its retries and its successors have no end before theirs. So the first end that is heard is
    what was waited for, also if the key has gone on to another call before the record is read: what is read then is
    none of this waiter's. A Redis that is not there at first is said at once; later an outage is waited for.
    """
    if not kept:
        raise ResultUnavailable(f"no result of {key!r} will come: execution_ttl=0 keeps none")
    first: Record | None = None
    since, end = "", None
    give_up_at = math.inf
    while True:
        # The clock is read first: what has ended before then is seen by the look. Events come over another connection,
        # and that of an earlier run of this key may still be on its way.
        look = Commands((("TIME",), ("HMGET", keys.runs(key), *FIELDS), ("GET", keys.results(key))))
        patiently = first is not None and clock.monotonic() < give_up_at
        replies = yield Attempt(look) if patiently else look
        if replies is None:
            give_up_at = min(give_up_at, clock.monotonic() + _LONGEST_OUTAGE)
            later = yield from _next_end(keys, key, until, since, _TRY_AGAIN)
            end = end or later
            continue
        give_up_at = math.inf
        record = parse_record(key, replies[1])
        if end is not None and first is not None and (record is None or not _belongs(record, end, first)):
            _raise_what_was_told(key, end)
        if record is None:
            raise ResultUnavailable(f"there is no execution {key!r}: it has expired, or never existed")
        if record.ended:
            return Ended(record, replies[2])
        if not record.ttl_ms:
            raise ResultUnavailable(f"no result of {key!r} will come: it was scheduled with execution_ttl=0")
        if first is None:
            first = record
            since = clock.isoformat(int(replies[0][0]) * 1_000_000 + int(replies[0][1]))
        end = yield from _next_end(keys, key, until, since, _LOOK_AGAIN)


def _next_end(
    keys: Keys, key: str, until: float | None, since: str, seconds: float
) -> Operation[StateEvent | None]:
    """The next end that is told and was not before `since`; None if only the record can tell, if there is still one."""
    channels = (keys.state_channel(key),)
    while True:
        left = None if until is None else until - clock.monotonic()
        if left is not None and left <= 0:
            raise _too_late(key)
        event: Any = yield NextEvent(channels, seconds if left is None else min(left, seconds))
        if event is None and left is not None and left <= seconds:
            continue
        if event is None or event is SUBSCRIBED:
            return None
        if b'"completed_at":null' not in event[1]:  # else it has moved, but not ended
            return _end_in(event[1], since)


def _end_in(text: bytes, since: str) -> StateEvent | None:
    """None also if it is no event of ours: anybody can publish."""
    try:
        event = parse(text)
        if event["type"] == "state" and event["state"].ended and (event["completed_at"] or "") >= since:
            return event
    except (ValueError, LookupError, TypeError):
        pass
    return None


def _belongs(record: Record, end: StateEvent, first: Record) -> bool:
    """Whether the record is of the run that ended; a dead letter is the same one when it has been retried since."""
    if record.generation == first.generation:
        return True
    ended = record.completed_at
    return ended is not None and clock.isoformat(clock.to_us(ended)) == end["completed_at"]


def _raise_what_was_told(key: str, end: StateEvent) -> NoReturn:
    """Of an end of which the ledger holds nothing any more."""
    if end["state"] is ExecutionState.CANCELLED:
        raise _cancelled(key, end["error"])
    if end["state"] is ExecutionState.FAILED:
        raise _failed(end["error"])
    raise ResultUnavailable(
        f"the result of {key!r} was gone before it was read: the key was used again, or it has expired"
    )


def _cancelled(key: str, error: str | None) -> ExecutionCancelled:
    return ExecutionCancelled(error or f"the execution {key!r} was cancelled")


def _failed(error: str | None) -> TaskFailed:
    type_name, _, text = (error or "Exception").partition(": ")
    return TaskFailed(type_name, text)


def _too_late(key: str) -> TimeoutError:
    return TimeoutError(f"the result of {key!r} has not come in time")


@contextmanager
def in_time(key: str) -> Generator[None]:
    """A result storage that needs longer than its patience is as late as an execution that does not end."""
    try:
        yield
    except TimeoutError as error:
        raise _too_late(key) from error


def patience(until: float | None) -> float | None:
    """Seconds left for the result storage. A limit of nothing asks for what is there, and to look takes a moment."""
    if until is None:
        return None
    return 1.0 if until == -math.inf else max(until - clock.monotonic(), 0.0)


def refuse_without_storage(ended: Ended) -> NoReturn:
    raise ResultUnavailable(
        f"the result of {ended.record.key!r} lies in a result storage, and this docket was opened without one"
    )


def outcome_of(door: payload.Door, record: Record, stored: bytes | None) -> Any:
    """The value, or the exception raised. `stored`: from Redis or from the result storage. CannotLoad names the key."""
    if record.state == "cancelled":
        raise _cancelled(record.key, record.error)
    if record.dead:
        raise DeadLetter(record.error or "set aside without a cause")
    if record.state == "failed":
        if stored is None or record.result not in _EXCEPTIONS:
            raise _failed(record.error)
        raise _loaded(door.load_exception, record, stored)
    if record.result is None:
        return None
    if stored is None:
        raise ResultUnavailable(f"the result of {record.key!r} has expired")
    return _loaded(door.load_result, record, stored)


def _loaded(load: Callable[[str, str, bytes | None, bytes], T], record: Record, stored: bytes) -> T:
    try:
        return load(record.function, record.key, record.nonce, stored)
    except CannotLoad as error:
        raise type(error)(f"the result of {record.key!r} {error}") from error
