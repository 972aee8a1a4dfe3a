"""Why something does not run: what an operator would otherwise piece together from six keys."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from docket import clock, strikes
from docket.durations import describe
from docket.message import FIELDS, Record, name_of, parse_record
from docket.snapshot import WorkerInfo, workers
from docket.store.keys import GROUP, SUSPECTS, Keys
from docket.store.requests import Commands, Operation
from docket.strikelist import StrikeList

_MORE = ("held", "waiting", "limits", "busy_worker", "stop", "shun", "priority")
_COUNTED = 10_000
"""Entries of a line that are looked through; what stands further back is behind "more than" so many."""

_GONE = "it is queued, and somebody has removed its place in line: add or cancel its key"
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Why:
    """`state` is None if nothing is known of the key. `reasons`: sentences, the one that decides first."""

    key: str
    state: str | None
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return "; ".join(self.reasons)


def why(keys: Keys, key: str, rules: StrikeList) -> Operation[Why]:
    """What keeps this execution from running, as far as the ledger knows."""
    (reply,) = yield Commands((("HMGET", keys.runs(key), *FIELDS, *_MORE),))
    record = parse_record(key, reply[: len(FIELDS)])
    if record is None:
        return Why(key, None, ("nothing is known of this key: it never existed, or its record has expired",))
    more = {
        name: None if raw is None else raw.decode(errors="replace")
        for name, raw in zip(_MORE, reply[len(FIELDS) :], strict=True)
    }
    alive = yield from workers(keys)
    if record.ended:
        return Why(key, record.state, tuple(_of_the_ended(record, alive)))
    if record.state == "running":
        return Why(key, record.state, tuple(_of_the_running(record, more)))
    reasons: list[str] = []
    if record.state == "scheduled":
        reasons += _of_the_parked(record)
    elif more["held"]:
        reasons += yield from _of_the_held(keys, more["held"])
    elif record.deferred:
        reasons.append(
            f"an earlier run of this key has not ended yet, on worker {name_of(more['busy_worker'] or '?')}: "
            "it begins after that"
        )
    elif more["waiting"]:
        reasons += yield from _of_the_waiting(
            keys, record, more["waiting"], json.loads(more["limits"] or "[]")
        )
    else:
        reasons += yield from _of_those_in_line(keys, record, reply[FIELDS.index("entry")])
    reasons += yield from _of_strikes(keys, record, rules)
    reasons += _of_workers(record, alive)
    return Why(key, record.state, tuple(reasons))


def _ago(moment: Any) -> str:
    return describe(max(round((clock.now() - moment) / _SECOND), 0) * _SECOND)


def _of_the_ended(record: Record, alive: list[WorkerInfo]) -> list[str]:
    error = f": {record.error}" if record.error else ""
    if not record.dead:
        return [f"it is not waiting: it has ended {record.state}{error}"]
    reasons = [f"it was set aside as a dead letter{error}"]
    if not any(record.function in worker.tasks for worker in alive):
        reasons.append(f"no worker that is alive knows the task {record.function!r}")
    return [*reasons, f"`docket dead retry {record.key}` puts it in line again"]


def _of_the_running(record: Record, more: dict[str, str | None]) -> list[str]:
    since = f" for {_ago(record.started_at)}" if record.started_at else ""
    reasons = [f"it is running, on worker {name_of(record.worker_id or '?')}{since}"]
    if more["stop"]:
        reasons.append("it was asked to stop, and has not yet")
    return reasons


def _of_the_parked(record: Record) -> list[str]:
    away = record.when - clock.now()
    if away > timedelta(0):
        shown = describe(max(round(away / _SECOND), 1) * _SECOND)
        return [f"it is parked until {record.when.isoformat()} (in {shown})"]
    return [f"it has been due for {_ago(record.when)}, and no worker has taken it up yet"]


def _of_the_held(keys: Keys, rule: str) -> Operation[list[str]]:
    (found,) = yield Commands((("XRANGE", keys.strikes, rule, rule),))
    if not found:
        return ["it was held by a strike that is lifted now: it goes on in a moment"]
    fields = dict(zip(found[0][1][::2], found[0][1][1::2], strict=True))
    function, parameter = fields[b"function"].decode() or "*", fields[b"parameter"].decode()
    what = f"{function} by its argument {parameter!r}" if parameter else function
    return [f"it is held by a strike on {what}, until `docket restore`"]


def _of_the_waiting(keys: Keys, record: Record, waiting: str, rows: list[Any]) -> Operation[list[str]]:
    kind, name = waiting[0], waiting[2:]
    line = keys.waiting(name) if kind == "c" else keys.throttled(name)
    rank, holders, alarm = yield Commands(
        (
            ("ZRANK", line, record.key),
            ("SMEMBERS", keys.concurrency(name)),
            ("ZSCORE", keys.alarms, name),
        )
    )
    place = _place(rank) if rank else "as the first in line"
    if kind == "r":
        until = f"; the next may begin at {clock.from_us(int(float(alarm))).isoformat()}" if alarm else ""
        row = next((row for row in rows if row[0] == "r" and row[1] == name), None)
        rate = f" ({row[2]} in {describe(timedelta(microseconds=row[3]))})" if row else ""
        return [f"it is waiting for the rate limit {name}{rate}, {place}{until}"]
    held = sorted(key.decode(errors="replace") for key in holders)
    shown = ", ".join(held[:5]) + (", …" if len(held) > 5 else "")
    by = (
        f"its {len(held)} permits are held by {shown}" if len(held) != 1 else f"its permit is held by {shown}"
    )
    return [
        f"it is waiting for the concurrency limit {name}, {place}",
        by
        if held
        else "none of its permits is held: it was paused with `docket limits set`, or is about to go on",
    ]


def _of_those_in_line(keys: Keys, record: Record, entry: bytes | None) -> Operation[list[str]]:
    lane, _, entry_id = (entry or b":").decode().partition(":")
    if not entry_id:
        return [_GONE]
    stream = keys.lane(lane)
    there, before = yield Commands(
        (
            ("XRANGE", stream, entry_id, entry_id),
            ("XRANGE", stream, "-", f"({entry_id}", "COUNT", _COUNTED),
        )
    )
    if not there:
        return [_GONE]
    delivered = 0
    (groups,) = yield Commands((("XINFO", "GROUPS", stream),))
    if groups:  # before the first worker there are none, and what was given out could not be asked for
        pending, delivered = yield from _given_out(stream, entry_id)
        if pending:
            return [f"it has been given to worker {name_of(pending)}, which is about to begin it"]
    place = _place(max(0, len(before) - delivered), len(before) == _COUNTED)
    if lane == SUSPECTS:
        return [f"it was running when its worker died, so it is going to be run alone, {place}"]
    level = {"h": " of high priority", "l": " of low priority", "r": " of those that go first"}.get(lane, "")
    return [f"it is in line, {place}{level}"]


def _given_out(stream: str, entry_id: str) -> Operation[tuple[str | None, int]]:
    """Which worker has been given this entry, and how many of the stream were given to somebody."""
    pending, summary = yield Commands(
        (
            ("XPENDING", stream, GROUP, entry_id, entry_id, 1),
            ("XPENDING", stream, GROUP),
        )
    )
    return (pending[0][1].decode() if pending else None), int(summary[0])


def _place(before: int, more: bool = False) -> str:
    if not before:
        return "as the first"
    return f"behind {'more than ' if more else ''}{before} other{'' if before == 1 else 's'}"


def _of_strikes(keys: Keys, record: Record, rules: StrikeList) -> Operation[list[str]]:
    yield from strikes.load(keys, rules)
    whole = rules.rules.whole.get(record.function)
    if whole is not None and not whole.hold:
        return [f"its task is struck, so it will be skipped when its turn comes ({whole.reason})"]
    if whole is not None:
        return [f"its task is held by a strike ({whole.reason})"]
    if rules.rules.concern(record.function):
        return ["there are strikes on arguments of its task, which may concern it (`docket strikes`)"]
    return []


def _of_workers(record: Record, alive: list[WorkerInfo]) -> list[str]:
    if not alive:
        return ["no worker is alive"]
    knowing = [worker for worker in alive if record.function in worker.tasks]
    if not knowing:
        return [
            f"none of the {len(alive)} workers alive knows the task {record.function!r}"
            if len(alive) > 1
            else f"the one worker alive does not know the task {record.function!r}"
        ]
    return []
