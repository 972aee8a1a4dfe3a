"""Everything that Redis holds about one execution, read without unpickling anything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from docket import clock, payload, progress
from docket.message import FIELDS, Record, parse_record
from docket.propagation import unpacked
from docket.store.keys import Keys
from docket.store.requests import Commands, Operation


@dataclass(frozen=True, slots=True)
class Inspection:
    """`held_by`: the id of the strike that holds it. `follows`: an earlier run of the key has not ended yet.

    Sizes are bytes as they are stored; `result_size` is None where there is no result, or it lies elsewhere.
    """

    record: Record
    progress: progress.Known
    held_by: str | None
    follows: bool
    arguments_size: int
    result_size: int | None
    expires_at: datetime | None

    @property
    def trace(self) -> dict[str, str]:
        """The trace that it was scheduled in, as it travels."""
        carried = unpacked(payload.header_of(self.record.body))
        return {
            name.decode(errors="replace"): value.decode(errors="replace") for name, value in carried.items()
        }

    @property
    def duration(self) -> timedelta | None:
        """How long it ran, or has run so far by this machine's clock."""
        began = self.record.started_at
        return None if began is None else max((self.record.completed_at or clock.now()) - began, timedelta(0))


def inspect(keys: Keys, key: str) -> Operation[Inspection | None]:
    """One round trip; None if there is no such execution."""
    record_key = keys.runs(key)
    replies = yield Commands(
        (
            ("HMGET", record_key, *FIELDS),
            ("HMGET", record_key, "held", "busy"),
            ("STRLEN", keys.results(key)),
            ("PTTL", record_key),
            ("HMGET", keys.progress(key), *progress.FIELDS),
        )
    )
    record = parse_record(key, replies[0])
    if record is None:
        return None
    held, busy = replies[1]
    return Inspection(
        record,
        progress.parse(replies[4]),
        None if held is None else held.decode(errors="replace"),
        busy is not None,
        len(record.body),
        int(replies[2]) if record.result is not None and int(replies[2]) else None,
        clock.now() + timedelta(milliseconds=int(replies[3])) if int(replies[3]) > 0 else None,
    )
