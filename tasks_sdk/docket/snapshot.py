"""A picture of a docket: what is waiting, running or set aside, read in pages, however much of it there is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
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
        self.knows_all = True
        """Nothing that was offered has been forgotten."""

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    def offer(self, execution: E) -> None:
        self._kept[execution.key] = execution
        if self._most is not None and len(self._kept) > 2 * self._most + PAGE:
            self._kept = {each.key: each for each in self.chosen()}
            self.knows_all = False

    def withdraw(self, key: str) -> None:
        self._kept.pop(key, None)

    def chosen(self) -> list[E]:
        """By due time."""
        return sorted(self._kept.values(), key=lambda each: each.when)[: self._most]


class _Lane:
    """A stream and how far it has been read: what comes later lies behind that."""

    def __init__(self, stream: str) -> None:
        self._stream, self._since = stream, "-"
        self.shown = 0

    @property
    def next_page(self) -> tuple[str | int, ...]:
        """The command that asks for it."""
        return ("XRANGE", self._stream, self._since, "+", "COUNT", PAGE)

    def names_in(self, entries: list[tuple[bytes, list[bytes]]]) -> list[str]:
        """The keys in the page that was asked for."""
        names: list[str] = []
        for _, fields in entries:
            values = dict(zip(fields[::2], fields[1::2], strict=False)) if fields else {}
            if b"k" in values:
                names.append(name_in(values[b"k"]))
        if entries:
            self._since = "(" + entries[-1][0].decode()
        return names


class _Ranks:
    """A sorted set and how far it has been read: whatever stays in its place there is met, once.

    Pages are asked for by rank, because to skip so many of one score takes Redis the longer the more they are. But what
    leaves the front meanwhile moves all others forward. So each page begins with the last that was met: where that is
    not so, and nothing from before it either, some may have slipped by, and the page begins further in front: first a
    little, for what is met again is read in vain, then twice as much each time.
    """

    def __init__(self, zset: str) -> None:
        self._zset, self._rank = zset, 0
        self._last: tuple[float, bytes] | None = None
        self.shown, self.at_end = 0, False

    def page(self) -> Operation[list[str]]:
        """The names that follow. `at_end`: there are no others, for now."""
        back = PAGE // 16
        while True:
            end = self._rank + PAGE - 1
            flat: list[bytes] = (yield Commands((("ZRANGE", self._zset, self._rank, end, "WITHSCORES"),)))[0]
            found = list(zip(map(float, flat[1::2]), flat[::2], strict=True))
            if self._last is None:
                ahead = found
            elif self._rank and (not found or found[0] > self._last):
                self._rank, back = max(0, self._rank - back), 2 * back
                continue
            else:
                # Redis sorts by score, then by the bytes of the name, and so does Python.
                ahead = [each for each in found if each > self._last]
            self._rank += max(0, len(found) - 1)
            self.at_end = len(found) < PAGE
            if ahead or self.at_end:
                self._last = ahead[-1] if ahead else self._last
                return [name_in(name) for _, name in ahead]


Visit = Callable[[Record], object]


class Tour:
    """Shows `live_one` or `dead_one` one record after the other, with never more than a page of them in memory, and by
    commands that take no longer the more there is. What moves meanwhile may be shown twice.

    `most_each`: of each place where executions wait, about so many that wait are shown, the first (None: all).
    """

    def __init__(self, keys: Keys, live_one: Visit, dead_one: Visit, most_each: int | None = None) -> None:
        self._keys, self._live_one, self._dead_one, self._most_each = keys, live_one, dead_one, most_each
        self._lanes = [
            _Lane(stream) for stream in (keys.suspects, keys.redelivered, keys.high, keys.stream, keys.low)
        ]
        self._dead = _Ranks(keys.dead)
        self.is_whole = True
        """No place has been left before its end."""

    def live(self) -> Operation[None]:
        """Everything that waits or runs. What goes in line meanwhile does so behind all that has been read there: so
        the streams are read first, and at the end from there on. What is promoted before the queue is read is there."""
        yield from self._streams()
        yield from self._waiting(None)
        yield from self._streams()

    def once_more(self, is_known: Callable[[str], bool]) -> Operation[None]:
        """What went meanwhile from a place that had not been read to one that had (a retry to the queue, say). It costs
        the names of all that waits, and the records of what is not known."""
        yield from self._waiting(is_known)
        yield from self._streams()

    def dead(self) -> Operation[None]:
        """The dead letters, the oldest first; if it is asked for again, those that have come since."""
        yield from self._zset(self._dead, None, dead=True)

    def _streams(self) -> Operation[None]:
        """What has come since they were read."""
        lanes = self._lanes
        while lanes := [lane for lane in lanes if not self._has_enough(lane.shown)]:
            replies = yield Commands([lane.next_page for lane in lanes])
            for lane, entries in zip(lanes, replies, strict=True):
                lane.shown += yield from self._records(lane.names_in(entries))
            lanes = [lane for lane, entries in zip(lanes, replies, strict=True) if len(entries) == PAGE]

    def _waiting(self, is_known: Callable[[str], bool] | None) -> Operation[None]:
        """What waits elsewhere than in the streams. The queue is first: what leaves it may go to any of the others."""
        keys = self._keys
        yield from self._zset(_Ranks(keys.queue), is_known)
        yield from self._lines(is_known)
        deferred, rules, lifted = yield Commands(
            (
                ("SMEMBERS", keys.deferred),
                ("XRANGE", keys.strikes, "-", "+"),
                ("SMEMBERS", keys.lifted),
            )
        )
        yield from self._records(_unknown([name_in(key) for key in deferred], is_known))
        for rule in (*(rule for rule, _ in rules), *lifted):
            yield from self._zset(_Ranks(keys.held(name_in(rule))), is_known)

    def _lines(self, is_known: Callable[[str], bool] | None) -> Operation[None]:
        """Those who wait for a limit. There may be a limit for each customer, and nobody waiting for most of them."""
        keys, cursor = self._keys, "0"
        while True:
            ((raw, names),) = yield Commands((("SSCAN", keys.limits, cursor, "COUNT", PAGE),))
            yield from self._lines_of([keys.waiting(name_in(name)) for name in names], is_known)
            cursor = raw.decode()
            if cursor == "0":
                break
        alarms = yield from _all_of(keys.alarms)
        for start in range(0, len(alarms), PAGE):
            lines = [keys.throttled(name) for name in alarms[start : start + PAGE]]
            yield from self._lines_of(lines, is_known)

    def _lines_of(self, lines: list[str], is_known: Callable[[str], bool] | None) -> Operation[None]:
        lengths = yield Commands([("ZCARD", line) for line in lines])
        for line, length in zip(lines, lengths, strict=True):
            if length:
                yield from self._zset(_Ranks(line), is_known)

    def _zset(
        self, ranks: _Ranks, is_known: Callable[[str], bool] | None, *, dead: bool = False
    ) -> Operation[None]:
        while not self._has_enough(ranks.shown):
            page = yield from ranks.page()
            ranks.shown += yield from self._records(_unknown(page, is_known), dead=dead)
            if ranks.at_end:
                return

    def _has_enough(self, shown: int) -> bool:
        enough = self._most_each is not None and shown >= self._most_each
        self.is_whole = self.is_whole and not enough
        return enough

    def _records(self, names: Sequence[str], *, dead: bool = False) -> Operation[int]:
        """Shows the records of these keys, without those that are gone or have ended (`dead`: but for dead letters, and
        no others). Says how many of them do not run."""
        shown, visit = 0, self._dead_one if dead else self._live_one
        for start in range(0, len(names), PAGE):
            page = names[start : start + PAGE]
            replies = yield Commands([("HMGET", self._keys.runs(key), *FIELDS) for key in page])
            for key, reply in zip(page, replies, strict=True):
                record = parse_record(key, reply)
                if record is not None and (record.dead if dead else not record.ended):
                    visit(record)
                    shown += record.state != ExecutionState.RUNNING
        return shown


def _unknown(names: list[str], is_known: Callable[[str], bool] | None) -> list[str]:
    return names if is_known is None else [name for name in names if not is_known(name)]


def dead_letters(keys: Keys, visit: Visit) -> Operation[None]:
    """Shows the dead letters, the oldest first, and nothing else."""
    return Tour(keys, visit, visit).dead()


def dead_keys(keys: Keys) -> Operation[list[str]]:
    """Of the dead letters, the oldest first."""
    return (yield from _all_of(keys.dead))


def is_dead(keys: Keys, key: str) -> Operation[bool]:
    """Whether this execution has been set aside."""
    (moment,) = yield Commands((("ZSCORE", keys.dead, key),))
    return moment is not None


def _all_of(zset: str) -> Operation[list[str]]:
    names: list[str] = []
    ranks = _Ranks(zset)
    while not ranks.at_end:
        names += yield from ranks.page()
    return names


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


def workers(keys: Keys, silence: timedelta | None = None) -> Operation[list[WorkerInfo]]:
    """Those whose lease holds, in two round trips. `silence`: and which were heard of no longer ago than that, by the
    clock by which they were."""
    replies: Any = yield Commands((("ZRANGE", keys.workers, 0, -1, "WITHSCORES"), ("TIME",)))
    rows, (seconds, micros) = replies
    now_ms = int(seconds) * 1000 + int(micros) // 1000
    leases = zip(rows[::2], rows[1::2], strict=True)
    alive = {raw.decode(): lapse_ms for raw, lapse in leases if (lapse_ms := int(float(lapse))) > now_ms}
    if not alive:
        return []
    fields = ("lease_ms", "tasks", "host", "process", "concurrency")
    replies = yield Commands([("HMGET", keys.worker(worker_id), *fields) for worker_id in alive])
    since_ms = 0 if silence is None else now_ms - clock.to_ms(silence)
    # A lease is renewed from the moment at which its worker is heard of.
    heard = [
        (worker_id, alive[worker_id] - int(reply[0]), reply[1:])
        for worker_id, reply in zip(alive, replies, strict=True)
        if reply[0] is not None
    ]
    return [
        WorkerInfo(
            name_of(worker_id),
            clock.from_us(heard_ms * 1000),
            frozenset(json.loads(tasks or b"[]")),
            (host or b"").decode(),
            (process or b"").decode(),
            int(concurrency or 0),
            worker_id,
        )
        for worker_id, heard_ms, (tasks, host, process, concurrency) in heard
        if heard_ms >= since_ms
    ]
