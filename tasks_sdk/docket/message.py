"""The record of an execution as Redis holds it: one list of fields, read here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from docket import clock
from docket.store.keys import name_in

FIELDS = (
    "state",
    "function",
    "body",
    "when_us",
    "generation",
    "attempt",
    "entry",
    "worker",
    "started_us",
    "completed_us",
    "error",
    "ttl_ms",
    "result",
    "redelivered",
    "crashes",
    "dead",
    "deferred",
    "nonce",
)
"""What clients read of a record. Scripts keep `busy`, `stop`, `request` and `progress` beside them."""

_STATES = frozenset({b"scheduled", b"queued", b"running", b"completed", b"failed", b"cancelled"})

STATES_ENDED = frozenset({"completed", "failed", "cancelled"})

CLAIM_WIDTH = 8

USUAL_TTL_MS = 900_000
"""What a record without `ttl_ms` means; `lua/_house.lua` knows it, too."""


def name_of(worker_id: str) -> str:
    """A worker id is the worker's name, `/`, and what tells its incarnations apart."""
    return worker_id.rpartition("/")[0] or worker_id


def number_in(raw: bytes | None, otherwise: int = 0) -> int:
    """Whoever can write to Redis can write nonsense: a record set aside for it must still be readable."""
    try:
        return otherwise if raw is None else int(raw)
    except ValueError:
        return otherwise


def _moment(raw: bytes | None) -> datetime | None:
    try:
        return None if raw is None else clock.from_us(int(raw))
    except (ValueError, OverflowError):
        return None


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Record:
    """One record, decoded. The arguments stay bytes until somebody asks for them."""

    key: str
    state: str
    function: str
    body: bytes
    when: datetime
    generation: int
    attempt: int
    worker_id: str | None
    started_at: datetime | None
    completed_at: datetime | None
    error: str | None
    ttl_ms: int
    result: str | None
    redelivered: int
    crashes: int
    dead: bool
    deferred: bool
    entry: str | None = None
    nonce: bytes | None = None
    """What a signed body must have been signed with."""

    @property
    def ended(self) -> bool:
        return self.state in STATES_ENDED


def parse_record(key: str, reply: Sequence[bytes | None]) -> Record | None:
    """From the reply to `HMGET … *FIELDS`; None if there is no (complete) record."""
    values = dict(zip(FIELDS, reply, strict=True))
    state, function, body = values["state"], values["function"], values["body"]
    if state is None or state not in _STATES or function is None or body is None:
        return None
    return Record(
        key=key,
        state=state.decode(),
        function=function.decode(errors="replace"),
        body=body,
        when=_moment(values["when_us"]) or clock.from_us(0),
        generation=number_in(values["generation"]),
        attempt=number_in(values["attempt"], 1),
        worker_id=_text(values["worker"]),
        started_at=_moment(values["started_us"]),
        completed_at=_moment(values["completed_us"]),
        error=_text(values["error"]),
        ttl_ms=number_in(values["ttl_ms"], USUAL_TTL_MS),
        result=_text(values["result"]),
        redelivered=number_in(values["redelivered"]),
        crashes=number_in(values["crashes"]),
        dead=values["dead"] is not None,
        deferred=values["deferred"] is not None,
        entry=_text(values["entry"]),
        nonce=values["nonce"],
    )


@dataclass(slots=True)
class Claimed:
    """One delivery that is now this worker's to run, as the claim script replies it."""

    entry: str
    key: str
    function: str
    body: bytes
    when_us: int
    generation: int
    nonce: bytes | None = None
    """What a signed body must have been signed with."""
    attempt: int = 1
    redelivered: int = 0
    crashes: int = 0
    ttl_ms: int = USUAL_TTL_MS
    admission: str | None = None
    """None: no limits are known. `=` and the limits that have admitted it; `!`, the number of the one that refuses it
    for good, `:` and the limits; `?`: its task is limited, and its worker has to say by what."""


def parse_claims(reply: Sequence[Any]) -> list[Claimed]:
    """From the flat rows of a claim: what every call has, and then what few have."""
    return [_parse_claim(*reply[i : i + CLAIM_WIDTH]) for i in range(0, len(reply), CLAIM_WIDTH)]


def _parse_claim(
    entry: bytes,
    key: bytes,
    function: bytes | None,
    body: bytes | None,
    when_us: bytes | None,
    generation: bytes | None,
    nonce: bytes | None,
    more: Sequence[bytes | None] | None,
) -> Claimed:
    name = function.decode(errors="replace") if function else ""
    claimed = Claimed(
        entry.decode(), name_in(key), name, body or b"", number_in(when_us), number_in(generation), nonce
    )
    if more is not None:
        attempt, redelivered, crashes, ttl_ms, admission = more
        claimed.attempt, claimed.redelivered = number_in(attempt, 1), number_in(redelivered)
        claimed.crashes, claimed.ttl_ms = number_in(crashes), number_in(ttl_ms, USUAL_TTL_MS)
        claimed.admission = _text(admission)
    return claimed
