"""The ledger as its keeper sees it: leases renewed, and the work of the dead given to others."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from docket import clock
from docket.store import scripts
from docket.store.asynchronous import AsyncStore
from docket.store.figures import Figures, figures
from docket.store.keys import SUSPECTS, Keys, name_in
from docket.store.requests import SUBSCRIBED, Commands

Stored = Callable[[str, str, bytes | None], str | bytes]
"""What depends on the call: its task, its key and its nonce."""

Verdict = tuple[str, str, str | bytes | int, str | bytes | Stored]
"""Entry, and an outcome: its verb and two operands."""


OFTEN = 8
"""A lease is looked after so many times while it lasts: a few that are missed do not matter."""


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What became of a worker's work: back in line, in line to be run alone, or set aside (the keys)."""

    returned: int
    suspects: int
    dead: tuple[str, ...]


def lease_ms(redelivery_timeout: timedelta, interval: timedelta) -> int:
    """What is asked of Redis: the redelivery timeout, and on top of it what may pass between a renewal and the loss of
    Redis, and between its return and the next renewal. So an outage shorter than the timeout never lapses a lease."""
    margin = min(redelivery_timeout / 4, timedelta(seconds=2))
    return clock.to_ms(redelivery_timeout + interval + margin)


def renewal_interval(redelivery_timeout: timedelta) -> timedelta:
    """How often a lease is renewed."""
    return min(redelivery_timeout / OFTEN, timedelta(seconds=2))


def in_one(worker_ids: Sequence[str]) -> str:
    """The ids that a worker has on the rolls of several partitions, in the order of these, as one; one stays itself.

    They differ behind the last dot only; empty is one that is not on its roll yet."""
    if len(worker_ids) == 1:
        return worker_ids[0]
    known = next(filter(None, worker_ids), "")
    common = known[: known.rfind(".") + 1]
    return common + ",".join(each[len(common) :] for each in worker_ids) if known else ""


def ids_in(one: str, count: int) -> list[str]:
    """The reverse of `in_one`."""
    if count == 1:
        return [one]
    end = one.rfind(".") + 1
    return [one[:end] + each for each in one[end:].split(",")]


def family_of(worker_id: str) -> str:
    """What the ids of a worker have in common, on whatever roll."""
    name, _, last = worker_id.rpartition("/")
    return f"{name}/{last.partition('.')[0]}"


class Ledger:
    """Every call is one round trip, `settle` two; redis-py's ConnectionError or TimeoutError: Redis is away."""

    def __init__(self, store: AsyncStore, keys: Keys) -> None:
        self._store, self._keys = store, keys

    async def ping(self) -> None:
        await self._store.ask(Commands((("PING",),)))

    async def renew(self, worker_ids: Sequence[str], lease: timedelta) -> list[bool]:
        """Their claims hold for another `lease`. False: that worker was struck off, and stays so."""
        if not worker_ids:
            return []
        held = await self._store.ask(
            scripts.renew(self._keys, worker_ids, lease_ms(lease, renewal_interval(lease)))
        )
        return [bool(each) for each in held]

    async def hand_over(
        self, worker_id: str, cause: str, *, started: Sequence[str] | None, max_crashes: int
    ) -> HandedOver:
        """All that was delivered to this worker is somebody else's. `started`: the entries whose body had begun; None:
        nobody knows, so all that was claimed is suspect. Doing it twice changes nothing."""
        reply = await self._store.ask(
            scripts.hand_over(self._keys, worker_id, cause, max_crashes=max_crashes, begun=started)
        )
        return _parse(reply)[1]

    async def evacuate(self, worker_id: str, begun: Sequence[str]) -> int:
        """What this worker was given and is not among `begun` is in line again, for others; it keeps the rest. It must
        have been told to begin nothing any more. Says how many."""
        return int(await self._store.ask(scripts.evacuate(self._keys, worker_id, begun)))

    async def settle(self, worker_id: str, verdicts: Sequence[Verdict]) -> None:
        """These outcomes hold, in the name of a worker that has died; what it no longer holds is left as it is."""
        keys = await self._keys_of([entry for entry, *_ in verdicts])
        held = [verdict for verdict in verdicts if verdict[0] in keys]
        calls = await self._store.ask(
            Commands([("HMGET", self._keys.runs(keys[entry]), "function", "nonce") for entry, *_ in held])
        )
        settlements = [
            (entry, keys[entry], verb, a, b(_text(function), keys[entry], nonce) if callable(b) else b)
            for (entry, verb, a, b), (function, nonce) in zip(held, calls, strict=True)
        ]
        await self._store.ask(
            scripts.exchange(
                self._keys,
                worker_id,
                free=0,
                lanes="",
                promote_most=0,
                census=False,
                settlements=settlements,
                deliveries=(),
            )
        )

    async def _keys_of(self, entries: Sequence[str]) -> dict[str, str]:
        """Those that are still in line."""
        places = [(self._keys.lane(entry[0]), entry[2:]) for entry in entries]
        found = await self._store.ask(
            Commands(tuple(("XRANGE", stream, number, number) for stream, number in places))
        )
        return {
            entry: name_in(key)
            for entry, rows in zip(entries, found, strict=True)
            if rows and (key := dict(zip(rows[0][1][::2], rows[0][1][1::2], strict=False)).get(b"k"))
        }

    async def sweep(self, max_crashes: int, *, thorough: bool = True) -> list[tuple[str, HandedOver]]:
        """Hands over the work of workers whose lease has lapsed; says whose. A few at a time: where a host has died,
        there may be many, and Redis serves nobody else meanwhile. `thorough`: what may have been delivered or forgotten
        in other ways, too; that takes Redis several times as long."""
        swept: list[tuple[str, HandedOver]] = []
        while True:
            rows = await self._store.ask(scripts.sweep(self._keys, max_crashes, thorough=thorough))
            swept += map(_parse, rows)
            if len(rows) < scripts.MOST_SWEPT:
                return swept

    async def suspects(self) -> int:
        """How many suspects are in line, those included that are being run alone just now."""
        (length,) = await self._store.ask(Commands((("XLEN", self._keys.suspects),)))
        return int(length)

    async def suspects_called_out(self) -> AsyncGenerator[None]:
        """Yields whenever there may be suspects in line that were not there before."""
        subscription = await self._store.listener.subscribe((self._keys.signals,))
        try:
            while True:
                item = await subscription.next()
                if item is SUBSCRIBED or (isinstance(item, tuple) and item[1] == f"look:{SUSPECTS}".encode()):
                    yield
        finally:
            await subscription.close()

    async def figures(self) -> Figures:
        """How much there is to do at this moment."""
        return await self._store.perform(figures(self._keys))


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode(errors="replace")


def _parse(row: Sequence[Any]) -> tuple[str, HandedOver]:
    worker_id, returned, suspects, dead = row
    return worker_id.decode(), HandedOver(int(returned), int(suspects), tuple(map(name_in, dead)))
