"""How far a running execution has come, as it says itself."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from docket.message import number_in
from docket.payload import encodable
from docket.store import scripts
from docket.store.keys import Keys
from docket.store.requests import Commands, Operation

FIELDS = ("current", "total", "message", "updated_at")


@dataclass(frozen=True, slots=True)
class Known:
    current: int = 0
    total: int = 100
    message: str | None = None
    updated_at: datetime | None = None


def parse(reply: Sequence[bytes | None]) -> Known:
    """What is no progress counts as none reported: whoever can write to Redis can write nonsense."""
    current, total, message, updated_at = reply
    return Known(
        number_in(current),
        number_in(total, 100),
        None if message is None else message.decode(errors="replace"),
        _moment(updated_at),
    )


def _moment(raw: bytes | None) -> datetime | None:
    try:
        found = None if raw is None else datetime.fromisoformat(raw.decode())
    except ValueError:
        return None
    return None if found is None or found.tzinfo is None else found


class ProgressView:
    """What is known of one execution's progress, and how to report it, whoever performs that.

    Progress belongs to one run: every retry and redelivery begins at 0 of 100 again, and nothing is left at the end.
    A worker that was given up, a cancelled or a replaced run reports in vain; so does a run with `execution_ttl=0`.
    """

    __slots__ = ("_docket", "_entry", "_key", "_known", "_lock", "_refused")

    def __init__(self, docket: Any, key: str, entry: str | None = None) -> None:
        self._docket = docket
        self._key = key
        self._entry = entry
        self._known = Known()
        self._lock = threading.Lock()
        self._refused = False

    @property
    def current(self) -> int:
        """As of the last report or `sync()`, like everything here."""
        return self._known.current

    @property
    def total(self) -> int:
        return self._known.total

    @property
    def message(self) -> str | None:
        return self._known.message

    @property
    def updated_at(self) -> datetime | None:
        """None: nothing was reported."""
        return self._known.updated_at

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._key!r} {self.current}/{self.total} {self.message!r}>"

    def learn(self, reply: Sequence[bytes | None]) -> None:
        """Takes over what the hash says; replies may come in another order than the reports went."""
        new = parse(reply)
        with self._lock:
            known_at = self._known.updated_at
            if new.updated_at is None or known_at is None or new.updated_at >= known_at:
                self._known = new

    def _set_total(self, total: int) -> Operation[None]:
        return self._report("total", _at_least_one("total", total))

    def _increment(self, amount: int) -> Operation[None]:
        return self._report("increment", _at_least_one("amount", amount))

    def _set_message(self, message: str | None) -> Operation[None]:
        if message is None:
            return self._report("silence", "")
        if not isinstance(message, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"expected a message of text or None, got {message!r}")
        return self._report("message", encodable(message))

    def _report(self, verb: str, value: str | int) -> Operation[None]:
        if self._refused:
            return
        # Not of the `random` module: tasks may seed it, and two reports of one number would count once.
        request = os.urandom(6).hex()
        reply = yield scripts.progress(self._keys, self._key, self._entry or "", verb, value, request)
        if reply is not None:
            self.learn(reply)
        elif self._entry is not None:
            self._refused = True  # for good: a delivery never comes back

    @property
    def _keys(self) -> Keys:
        return self._docket.core.keys_of(self._key)

    def _read(self) -> Operation[None]:
        replies = yield Commands((("HMGET", self._keys.progress(self._key), *FIELDS),))
        self.learn(replies[0])


def _at_least_one(name: str, number: int) -> int:
    if not isinstance(number, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"expected {name} to be a whole number, got {number!r}")
    if number < 1:
        raise ValueError(f"expected {name} to be at least 1, got {number}")
    return int(number)


class ExecutionProgress(ProgressView):
    """The progress of one execution, from asyncio."""

    __slots__ = ()

    async def set_total(self, total: int) -> None:
        """`total` units are to be done in all (100 unless it is said). ValueError below 1."""
        await self._docket.store.perform(self._set_total(total))

    async def increment(self, amount: int = 1) -> None:
        """`amount` more units are done; atomic, whoever else increments. ValueError below 1."""
        await self._docket.store.perform(self._increment(amount))

    async def set_message(self, message: str | None) -> None:
        """What is being done, for people to read; None: nothing in particular."""
        await self._docket.store.perform(self._set_message(message))

    async def sync(self) -> None:
        """Everything is as Redis has it now."""
        await self._docket.store.perform(self._read())
