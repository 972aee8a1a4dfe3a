"""The limits of a docket as they stand: who holds a permit, who waits, and what an operator has set."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from docket import clock
from docket.message import name_of
from docket.store import scripts
from docket.store.keys import Keys, name_in
from docket.store.requests import Commands, Operation

_PAGE = 200

CONCURRENCY, RATE = "concurrency", "rate"


@dataclass(frozen=True, slots=True)
class Holder:
    """An execution that holds a permit. `worker` and `since` are None while it is admitted, but not begun."""

    key: str
    task: str
    worker: str | None
    since: datetime | None


@dataclass(frozen=True, slots=True)
class LimitInfo:
    """A limit that somebody holds a permit of or waits for.

    `kind`: `concurrency` or `rate`. `most`: how many it admits, as the first in its line (else a holder) states it,
    or as an operator has set it (`is_set`). `used`: permits held, or starts that count in the window of a rate limit.
    `waiting_since`: when the first in line was due.
    """

    name: str
    kind: str
    most: int
    is_set: bool
    used: int
    holders: tuple[Holder, ...]
    waiting: int
    waiting_since: datetime | None


def limits(keys: Keys) -> Operation[list[LimitInfo]]:
    """Those in use, by name."""
    concurrent, throttled, flat = yield Commands(
        (("SMEMBERS", keys.limits), ("ZRANGE", keys.alarms, 0, -1), ("HGETALL", keys.maximums))
    )
    maximums = _maximums(flat)
    found: list[LimitInfo] = []
    for kind, raw in ((CONCURRENCY, concurrent), (RATE, throttled)):
        names = sorted(map(name_in, raw))
        for start in range(0, len(names), _PAGE):
            found += yield from _page(keys, kind, names[start : start + _PAGE], maximums)
    return found


def maximums(keys: Keys) -> Operation[dict[str, int]]:
    """What operators have set."""
    (flat,) = yield Commands((("HGETALL", keys.maximums),))
    return _maximums(flat)


def set_maximum(keys: Keys, name: str, most: int | None) -> Operation[int | None]:
    """From now on the limit (or all limits that have this name in common) admits so many; None: what the code says.

    Returns what was set before. ValueError for less than nothing.
    """
    if not name:
        raise ValueError("expected the name of a limit, got ''")
    if most is not None and most < 0:
        raise ValueError(f"expected a limit to admit 0 or more, got {most}")
    before = yield scripts.maximum(keys, name, most)
    # Which limits have this name in common only those know that stand in their lines.
    cursor = "0"
    while True:
        ((raw, names),) = yield Commands((("SSCAN", keys.limits, cursor, "COUNT", _PAGE),))
        if names:
            yield scripts.look(keys, [name_in(limit) for limit in names])
        cursor = raw.decode()
        if cursor == "0":
            return None if before is None else int(before)


def _maximums(reply: list[bytes]) -> dict[str, int]:
    return {name_in(name): int(most) for name, most in zip(reply[::2], reply[1::2], strict=True)}


def _page(keys: Keys, kind: str, names: list[str], maximums: dict[str, int]) -> Operation[list[LimitInfo]]:
    asked: list[tuple[Any, ...]] = []
    for name in names:
        line = keys.waiting(name) if kind == CONCURRENCY else keys.throttled(name)
        used = ("SMEMBERS", keys.concurrency(name)) if kind == CONCURRENCY else ("EXISTS", keys.rates(name))
        asked += (used, ("ZCARD", line), ("ZRANGE", line, 0, 0))
    replies = yield Commands(asked)
    found: list[LimitInfo] = []
    for i, name in enumerate(names):
        used, waiting, first = replies[3 * i : 3 * i + 3]
        held = sorted(map(name_in, used)) if kind == CONCURRENCY else []
        head = [name_in(key) for key in first]
        if not (held or waiting or used):
            continue
        records = yield from _records(keys, [*held, *head])
        stated = _stated(kind, name, [records[key] for key in (*head, *held)])
        most, is_set = _most(name, stated, maximums)
        if kind == RATE:
            used = yield from _starts(keys, name, stated)
        found.append(
            LimitInfo(
                name,
                kind,
                most,
                is_set,
                len(held) if kind == CONCURRENCY else used,
                tuple(_holder(key, records[key]) for key in held),
                int(waiting),
                clock.from_us(int(records[head[0]][4] or 0)) if head else None,
            )
        )
    return found


def _starts(keys: Keys, name: str, row: list[Any]) -> Operation[int]:
    """How many there were within the window; what is older may still be kept for a limit of the same name."""
    since = clock.now_us() - int(row[3]) if row else 0
    (count,) = yield Commands((("ZCOUNT", keys.rates(name), since, "+inf"),))
    return int(count)


def _records(keys: Keys, names: list[str]) -> Operation[dict[str, list[bytes | None]]]:
    fields = ("function", "worker", "started_us", "limits", "when_us", "state")
    replies = yield Commands([("HMGET", keys.runs(key), *fields) for key in names])
    return dict(zip(names, replies, strict=True))


def _holder(key: str, record: list[bytes | None]) -> Holder:
    task, worker, started, _, _, state = record
    begun = state != b"queued" and worker is not None and started is not None
    return Holder(
        key,
        (task or b"").decode(errors="replace"),
        name_of(worker.decode()) if begun and worker is not None else None,
        clock.from_us(int(started)) if begun and started is not None else None,
    )


def _stated(kind: str, name: str, records: Iterable[list[bytes | None]]) -> list[Any]:
    """The row of this limit, from the first record that has it."""
    for record in records:
        for row in json.loads(record[3] or b"[]"):
            if row[0] == kind[0] and row[1] == name:
                return row
    return []


def _most(name: str, row: list[Any], maximums: dict[str, int]) -> tuple[int, bool]:
    family = row[4] if len(row) > 4 and row[0] == "c" else ""
    for each in (name, family):
        if each in maximums and (not row or row[0] == "c"):
            return maximums[each], True
    return (int(row[2]) if row else 0), False
