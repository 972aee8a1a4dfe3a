"""A picture of a whole docket: everything waiting, running or set aside, read in pages."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from docket import clock
from docket.message import FIELDS, Record, name_of, parse_record
from docket.store.keys import Keys
from docket.store.requests import Commands, Operation

PAGE = 500

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker that was alive when asked. `tasks`: the names it can run."""

    name: str
    last_seen: datetime
    tasks: frozenset[str]
    host: str = ""
    process: str = ""
    concurrency: int = 0
    worker_id: str = ""


@dataclass(frozen=True, slots=True)
class DocketSnapshot(Generic[E]):
    """`future`: scheduled, queued, or waiting for an earlier body of their key; `dead`: the dead letters."""

    taken: datetime
    total_tasks: int
    future: list[E] = field(default_factory=list[E])
    running: list[E] = field(default_factory=list[E])
    dead: list[E] = field(default_factory=list[E])
    workers: list[WorkerInfo] = field(default_factory=list[WorkerInfo])


def read_records(keys: Keys, names: Iterable[str]) -> Operation[list[Record]]:
    """The records of these keys, without those that are gone."""
    wanted = list(names)
    found: list[Record] = []
    for start in range(0, len(wanted), PAGE):
        page = wanted[start : start + PAGE]
        replies = yield Commands([("HMGET", keys.runs(key), *FIELDS) for key in page])
        found += [
            record
            for key, reply in zip(page, replies, strict=True)
            if (record := parse_record(key, reply)) is not None
        ]
    return found


def live_records(keys: Keys) -> Operation[list[Record]]:
    """Everything that waits or runs, each once, the parked ones last and by due time."""
    names: dict[str, None] = {}
    for lane in (keys.suspects, keys.redelivered, keys.high, keys.stream, keys.low):
        names |= dict.fromkeys((yield from _keys_in_stream(lane)))
    deferred, rules, limits, rates = yield Commands(
        (
            ("SMEMBERS", keys.deferred),
            ("XRANGE", keys.strikes, "-", "+"),
            ("SMEMBERS", keys.limits),
            ("ZRANGE", keys.alarms, 0, -1),
        )
    )
    lines = [keys.waiting(name.decode()) for name in limits] + [
        keys.throttled(name.decode()) for name in rates
    ]
    for line in lines:
        names |= dict.fromkeys((yield from _keys_in_order(line)))
    names |= dict.fromkeys(key.decode() for key in deferred)
    for rule, _ in rules:
        names |= dict.fromkeys((yield from _keys_in_order(keys.held(rule.decode()))))
    names |= dict.fromkeys((yield from _keys_in_order(keys.queue)))
    records = yield from read_records(keys, names)
    return [record for record in records if not record.ended]


def dead_records(keys: Keys) -> Operation[list[Record]]:
    """The dead letters, the oldest first."""
    records = yield from read_records(keys, (yield from _keys_in_order(keys.dead)))
    return [record for record in records if record.dead]


def _keys_in_stream(stream: str) -> Operation[list[str]]:
    names: list[str] = []
    since = "-"
    while True:
        entries: list[tuple[bytes, list[bytes]]] = (
            yield Commands((("XRANGE", stream, since, "+", "COUNT", PAGE),))
        )[0]
        for _, fields in entries:
            values = dict(zip(fields[::2], fields[1::2], strict=False)) if fields else {}
            if b"k" in values:
                names.append(values[b"k"].decode(errors="surrogateescape"))
        if len(entries) < PAGE:
            return names
        since = "(" + entries[-1][0].decode()


def _keys_in_order(zset: str) -> Operation[list[str]]:
    names: list[str] = []
    while True:
        page: list[bytes] = (yield Commands((("ZRANGE", zset, len(names), len(names) + PAGE - 1),)))[0]
        names += [key.decode(errors="surrogateescape") for key in page]
        if len(page) < PAGE:
            return names


def workers(keys: Keys) -> Operation[list[WorkerInfo]]:
    """Those whose lease holds, in two round trips."""
    replies: Any = yield Commands((("ZRANGE", keys.workers, 0, -1, "WITHSCORES"), ("TIME",)))
    rows, (seconds, micros) = replies
    now_ms = int(seconds) * 1000 + int(micros) // 1000
    alive = [raw.decode() for raw, lapse in zip(rows[::2], rows[1::2], strict=True) if float(lapse) > now_ms]
    if not alive:
        return []
    fields = ("seen_us", "tasks", "host", "process", "concurrency")
    replies = yield Commands([("HMGET", keys.worker(worker_id), *fields) for worker_id in alive])
    return [
        WorkerInfo(
            name_of(worker_id),
            clock.from_us(int(seen)),
            frozenset(json.loads(tasks or b"[]")),
            (host or b"").decode(),
            (process or b"").decode(),
            int(concurrency or 0),
            worker_id,
        )
        for worker_id, (seen, tasks, host, process, concurrency) in zip(alive, replies, strict=True)
        if seen is not None
    ]
