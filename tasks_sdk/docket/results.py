"""How an execution's end is waited for, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn, TypeVar

from docket import clock, payload, progress, resultstorage
from docket.errors import CannotLoad, DeadLetter, ExecutionCancelled, ResultUnavailable, TaskFailed
from docket.message import FIELDS, Record, parse_record
from docket.store.keys import Keys
from docket.store.requests import Commands, NextEvent, Operation

T = TypeVar("T")

_ELSEWHERE = " elsewhere"
_EXCEPTIONS = ("exception", "exception" + _ELSEWHERE)

_LOOK_AGAIN = 60.0
"""Seconds after which a waiter looks at the record even without an event: it may have vanished without one."""


def read_all(keys: Keys, key: str) -> Operation[tuple[Record | None, Sequence[bytes | None]]]:
    """The record and the progress."""
    replies = yield Commands(
        (("HMGET", keys.runs(key), *FIELDS), ("HMGET", keys.progress(key), *progress.FIELDS))
    )
    return parse_record(key, replies[0]), replies[1]


def limit(timeout: timedelta | None, deadline: datetime | None) -> float | None:
    """The monotonic instant at which to give up. ValueError if both are given."""
    if timeout is not None and deadline is not None:
        raise ValueError("expected timeout or deadline, got both")
    if deadline is not None:
        timeout = clock.from_us(clock.to_us(deadline)) - clock.now()
    return None if timeout is None else clock.monotonic() + timeout.total_seconds()


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
    """The end of whatever the key names then: a replaced execution's waiters wait for its successor."""
    if not kept:
        raise ResultUnavailable(f"no result of {key!r} will come: execution_ttl=0 keeps none")
    while True:
        replies = yield Commands((("HMGET", keys.runs(key), *FIELDS), ("GET", keys.results(key))))
        record = parse_record(key, replies[0])
        if record is None:
            raise ResultUnavailable(f"there is no execution {key!r}: it has expired, or never existed")
        if record.ended:
            return Ended(record, replies[1])
        if not record.ttl_ms:
            raise ResultUnavailable(f"no result of {key!r} will come: it was scheduled with execution_ttl=0")
        yield from _next_change(keys, key, until)


def _next_change(keys: Keys, key: str, until: float | None) -> Operation[None]:
    channels = (keys.state_channel(key),)
    while True:
        left = None if until is None else until - clock.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError(f"the execution {key!r} has not ended in time")
        event = yield NextEvent(channels, _LOOK_AGAIN if left is None else min(left, _LOOK_AGAIN))
        if isinstance(event, tuple) and b'"completed_at":null' in event[1]:
            continue  # it moved, but has not ended
        if event is not None or left is None or left > _LOOK_AGAIN:
            return


def patience(until: float | None) -> float | None:
    """Seconds left for the result storage; at least one, since the execution has ended in time."""
    return None if until is None else max(until - clock.monotonic(), 1.0)


def refuse_without_storage(ended: Ended) -> NoReturn:
    raise ResultUnavailable(
        f"the result of {ended.record.key!r} lies in a result storage, and this docket was opened without one"
    )


def outcome_of(door: payload.Door, record: Record, stored: bytes | None) -> Any:
    """The value, or the exception raised. `stored`: from Redis or from the result storage. CannotLoad names the key."""
    if record.state == "cancelled":
        raise ExecutionCancelled(record.error or f"the execution {record.key!r} was cancelled")
    if record.dead:
        raise DeadLetter(record.error or "set aside without a cause")
    if record.state == "failed":
        if stored is None or record.result not in _EXCEPTIONS:
            type_name, _, text = (record.error or "Exception").partition(": ")
            raise TaskFailed(type_name, text)
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
