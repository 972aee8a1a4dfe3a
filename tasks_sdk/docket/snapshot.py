"""A picture of a docket: what is waiting, running or set aside, read in pages, however much of it there is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from docket import clock
from docket.execution import ExecutionView
from docket.message import FIELDS, Record, name_of, parse_record
from docket.states import ExecutionState
from docket.store.keys import Keys, name_in
from docket.store.ledger import family_of
from docket.store.requests import Commands, Operation

PAGE = 500

E = TypeVar("E", bound=ExecutionView)


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
    partitions: frozenset[int] = frozenset()
    """Those that it serves, of a docket that is split."""


@dataclass(frozen=True, slots=True)
class DocketSnapshot(Generic[E]):
    """`future`: scheduled, queued, or waiting for an earlier body of their key; `dead`: the dead letters.

    `omitted`: how many of these two are not in the lists, because only so many were asked for.
    """

    taken: datetime
    total_tasks: int
    future: list[E] = field(default_factory=list[E])
    running: list[E] = field(default_factory=list[E])
    dead: list[E] = field(default_factory=list[E])
    workers: list[WorkerInfo] = field(default_factory=list[WorkerInfo])
    omitted: int = 0


class FirstDue(Generic[E]):
    """Of what is offered, the `most` that are due first (None: all); one that is offered again is as it was last."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._kept: dict[str, E] = {}

    def offer(self, execution: E) -> None:
        self._kept[execution.key] = execution
        if self._most is not None and len(self._kept) > 2 * self._most + PAGE:
            self._kept = {each.key: each for each in self.chosen()}

    def withdraw(self, key: str) -> None:
        self._kept.pop(key, None)

    def chosen(self) -> list[E]:
        """By due time."""
        return sorted(self._kept.values(), key=lambda each: each.when)[: self._most]


Visit = Callable[[Record], object]


class Tour:
    """Shows `visit` one record after the other, with never more than a page of them in memory, and by commands that
    take no longer the more there is. What moves meanwhile may be shown twice.

    `most_each`: of each place where executions wait, about so many that wait are shown, the first (None: all).
    """

    def __init__(self, keys: Keys, visit: Visit, most_each: int | None = None) -> None:
        self._keys, self._visit, self._most_each = keys, visit, most_each

    def live(self) -> Operation[None]:
        """Everything that waits or runs; the parked ones last and by due time."""
        keys = self._keys
        for lane in (keys.suspects, keys.redelivered, keys.high, keys.stream, keys.low):
            yield from self._stream(lane)
        yield from self._lines()
        deferred, rules, lifted = yield Commands(
            (
                ("SMEMBERS", keys.deferred),
                ("XRANGE", keys.strikes, "-", "+"),
                ("SMEMBERS", keys.lifted),
            )
        )
        yield from self._records([name_in(key) for key in deferred])
        for rule in (*(rule for rule, _ in rules), *lifted):
            yield from self._zset(keys.held(name_in(rule)))
        yield from self._zset(keys.queue)

    def dead(self) -> Operation[None]:
        """The dead letters, the oldest first."""
        yield from self._zset(self._keys.dead, dead=True)

    def _lines(self) -> Operation[None]:
        """Those who wait for a limit. There may be a limit for each customer, and nobody waiting for most of them."""
        keys, cursor = self._keys, "0"
        while True:
            ((raw, names),) = yield Commands((("SSCAN", keys.limits, cursor, "COUNT", PAGE),))
            yield from self._lines_of([keys.waiting(name_in(name)) for name in names])
            cursor = raw.decode()
            if cursor == "0":
                break
        alarms = yield from _all_of(keys.alarms)
        for start in range(0, len(alarms), PAGE):
            yield from self._lines_of([keys.throttled(name) for name in alarms[start : start + PAGE]])

    def _lines_of(self, lines: list[str]) -> Operation[None]:
        lengths = yield Commands([("ZCARD", line) for line in lines])
        for line, length in zip(lines, lengths, strict=True):
            if length:
                yield from self._zset(line)

    def _stream(self, stream: str) -> Operation[None]:
        since, shown = "-", 0
        while self._wants_more(shown):
            entries: list[tuple[bytes, list[bytes]]] = (
                yield Commands((("XRANGE", stream, since, "+", "COUNT", PAGE),))
            )[0]
            names: list[str] = []
            for _, fields in entries:
                values = dict(zip(fields[::2], fields[1::2], strict=False)) if fields else {}
                if b"k" in values:
                    names.append(name_in(values[b"k"]))
            shown += yield from self._records(names)
            if len(entries) < PAGE:
                return
            since = "(" + entries[-1][0].decode()

    def _zset(self, zset: str, *, dead: bool = False) -> Operation[None]:
        start, shown = 0, 0
        while self._wants_more(shown):
            page = yield from _page_of(zset, start)
            shown += yield from self._records(page, dead=dead)
            if len(page) < PAGE:
                return
            start += len(page)

    def _wants_more(self, shown: int) -> bool:
        return self._most_each is None or shown < self._most_each

    def _records(self, names: Sequence[str], *, dead: bool = False) -> Operation[int]:
        """Shows the records of these keys, without those that are gone or have ended (`dead`: but for dead letters, and
        no others). Says how many of them do not run."""
        shown = 0
        for start in range(0, len(names), PAGE):
            page = names[start : start + PAGE]
            replies = yield Commands([("HMGET", self._keys.runs(key), *FIELDS) for key in page])
            for key, reply in zip(page, replies, strict=True):
                record = parse_record(key, reply)
                if record is not None and (record.dead if dead else not record.ended):
                    self._visit(record)
                    shown += record.state != ExecutionState.RUNNING
        return shown


def dead_keys(keys: Keys) -> Operation[list[str]]:
    """Of the dead letters, the oldest first."""
    return (yield from _all_of(keys.dead))


def is_dead(keys: Keys, key: str) -> Operation[bool]:
    """Whether this execution has been set aside."""
    (moment,) = yield Commands((("ZSCORE", keys.dead, key),))
    return moment is not None


def _all_of(zset: str) -> Operation[list[str]]:
    names: list[str] = []
    while True:
        page = yield from _page_of(zset, len(names))
        names += page
        if len(page) < PAGE:
            return names


def _page_of(zset: str, start: int) -> Operation[list[str]]:
    page: list[bytes] = (yield Commands((("ZRANGE", zset, start, start + PAGE - 1),)))[0]
    return [name_in(key) for key in page]


def joined(pages: Sequence[Sequence[WorkerInfo]]) -> list[WorkerInfo]:
    """The workers on the rolls of all partitions, each once, with what its ids on them have in common."""
    found: dict[str, WorkerInfo] = {}
    for number, page in enumerate(pages):
        for each in page:
            family = family_of(each.worker_id)
            known = found.get(family, each)
            found[family] = replace(
                known,
                worker_id=family,
                last_seen=max(known.last_seen, each.last_seen),
                tasks=known.tasks | each.tasks,
                partitions=known.partitions | {number},
            )
    return list(found.values())


def workers(keys: Keys) -> Operation[list[WorkerInfo]]:
    """Those whose lease holds, in two round trips."""
    replies: Any = yield Commands((("ZRANGE", keys.workers, 0, -1, "WITHSCORES"), ("TIME",)))
    rows, (seconds, micros) = replies
    now_ms = int(seconds) * 1000 + int(micros) // 1000
    leases = zip(rows[::2], rows[1::2], strict=True)
    alive = {raw.decode(): lapse_ms for raw, lapse in leases if (lapse_ms := int(float(lapse))) > now_ms}
    if not alive:
        return []
    fields = ("lease_ms", "tasks", "host", "process", "concurrency")
    replies = yield Commands([("HMGET", keys.worker(worker_id), *fields) for worker_id in alive])
    return [
        WorkerInfo(
            name_of(worker_id),
            # A lease is renewed from the moment at which its worker is heard of.
            clock.from_us((alive[worker_id] - int(lease)) * 1000),
            frozenset(json.loads(tasks or b"[]")),
            (host or b"").decode(),
            (process or b"").decode(),
            int(concurrency or 0),
            worker_id,
        )
        for worker_id, (lease, tasks, host, process, concurrency) in zip(alive, replies, strict=True)
        if lease is not None
    ]
