"""How an execution's end is waited for, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from docket import clock, payload, progress
from docket.errors import DeadLetter, ExecutionCancelled, ResultUnavailable, TaskFailed
from docket.message import FIELDS, Record, parse_record
from docket.store.keys import Keys
from docket.store.requests import Commands, NextEvent, Operation

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


def get_result(keys: Keys, key: str, until: float | None, *, kept: timedelta) -> Operation[Any]:
    """The result of whatever the key names when it ends: a replaced execution's waiters wait for its successor."""
    if not kept:
        raise ResultUnavailable(f"no result of {key!r} will come: execution_ttl=0 keeps none")
    while True:
        replies = yield Commands((("HMGET", keys.runs(key), *FIELDS), ("GET", keys.results(key))))
        record = parse_record(key, replies[0])
        if record is None:
            raise ResultUnavailable(f"there is no execution {key!r}: it has expired, or never existed")
        if record.ended:
            return _outcome(record, replies[1])
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


def _outcome(record: Record, stored: bytes | None) -> Any:
    if record.state == "cancelled":
        raise ExecutionCancelled(record.error or f"the execution {record.key!r} was cancelled")
    if record.dead:
        raise DeadLetter(record.error or "set aside without a cause")
    if record.state == "failed":
        if stored is None or record.result != "exception":
            type_name, _, text = (record.error or "Exception").partition(": ")
            raise TaskFailed(type_name, text)
        raise payload.load_exception(stored)
    if record.result is None:
        return None
    if stored is None:
        raise ResultUnavailable(f"the result of {record.key!r} has expired")
    return payload.load(stored)
