"""Several ledgers kept as if they were one: those of the partitions of a docket that is split.

A worker has an id on each of their rolls; all of them are named in one (`docket.store.ledger.in_one`). An entry is
marked with the number of its partition, `2|d:1700000000000-0`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import TypeVar

import anyio.to_thread

from docket.settings import DocketSettings
from docket.store.asynchronous import AsyncStore
from docket.store.connect import address_of, partitions_of, resolve
from docket.store.figures import Figures, summed
from docket.store.gathering import all_of
from docket.store.ledger import HandedOver, Ledger, Verdict, ids_in

T = TypeVar("T")


class Ledgers:
    """As `Ledger`, for the partitions with these numbers, in order. What fails in one is done in the others all the
    same, and then it is told."""

    def __init__(self, ledgers: Mapping[int, Ledger]) -> None:
        self._ledgers = dict(ledgers)

    def _ids_in(self, one: str) -> list[str]:
        return ids_in(one, len(self._ledgers))

    async def ping(self) -> None:
        await all_of(ledger.ping() for ledger in self._ledgers.values())

    async def renew(self, worker_ids: Sequence[str], lease: timedelta) -> list[bool]:
        """False: that worker was struck off all rolls. Struck off some, it comes back there by itself, and must not
        lose what it runs of the others."""
        ids = [self._ids_in(one) for one in worker_ids]
        renewed = await all_of(
            ledger.renew([each[at] for each in ids], lease)
            for at, ledger in enumerate(self._ledgers.values())
        )
        return [any(held) for held in zip(*renewed, strict=True)]

    async def hand_over(
        self, worker_id: str, cause: str, *, started: Sequence[str] | None, max_crashes: int
    ) -> HandedOver:
        begun = None if started is None else _by_partition(started)
        outcomes = await all_of(
            ledger.hand_over(
                each,
                cause,
                started=None if begun is None else begun.get(number, ()),
                max_crashes=max_crashes,
            )
            for (number, ledger), each in zip(self._ledgers.items(), self._ids_in(worker_id), strict=True)
        )
        dead = tuple(key for outcome in outcomes for key in outcome.dead)
        return HandedOver(
            sum(each.returned for each in outcomes), sum(each.suspects for each in outcomes), dead
        )

    async def evacuate(self, worker_id: str, begun: Sequence[str]) -> int:
        kept = _by_partition(begun)
        return sum(
            await all_of(
                ledger.evacuate(each, kept.get(number, ()))
                for (number, ledger), each in zip(self._ledgers.items(), self._ids_in(worker_id), strict=True)
            )
        )

    async def settle(self, worker_id: str, verdicts: Sequence[Verdict]) -> None:
        ids = dict(zip(self._ledgers, self._ids_in(worker_id), strict=True))
        settled: dict[int, list[Verdict]] = {}
        for entry, verb, a, b in verdicts:
            number, plain = _unmarked(entry)
            settled.setdefault(number, []).append((plain, verb, a, b))
        await all_of(self._ledgers[number].settle(ids[number], some) for number, some in settled.items())

    async def sweep(self, max_crashes: int, *, thorough: bool = True) -> list[tuple[str, HandedOver]]:
        """Each id is that of one roll."""
        pages = await all_of(
            ledger.sweep(max_crashes, thorough=thorough) for ledger in self._ledgers.values()
        )
        return [row for page in pages for row in page]

    async def suspects(self) -> int:
        return sum(await all_of(ledger.suspects() for ledger in self._ledgers.values()))

    async def suspects_called_out(self) -> AsyncGenerator[None]:
        called = asyncio.Event()

        async def hear(ledger: Ledger) -> None:
            async for _ in ledger.suspects_called_out():
                called.set()

        async with asyncio.TaskGroup() as group:
            listening = [group.create_task(hear(ledger)) for ledger in self._ledgers.values()]
            try:
                while True:
                    await called.wait()
                    called.clear()
                    yield
            finally:
                for each in listening:
                    each.cancel()

    async def figures(self) -> Figures:
        return summed(await all_of(ledger.figures() for ledger in self._ledgers.values()))


def _unmarked(entry: str) -> tuple[int, str]:
    number, _, plain = entry.partition("|")
    return int(number), plain


def _by_partition(entries: Iterable[str]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for entry in entries:
        number, plain = _unmarked(entry)
        found.setdefault(number, []).append(plain)
    return found


AnyLedger = Ledger | Ledgers


@asynccontextmanager
async def open_ledger(
    settings: DocketSettings, served: Sequence[int] | None = None
) -> AsyncGenerator[AnyLedger]:
    """At most three connections for each partition of the docket (or each that is `served`): two for what is asked, one
    that listens."""
    address = await anyio.to_thread.run_sync(resolve, settings.url, settings.name)
    parts = partitions_of(settings.name, settings.url, settings.partitions)
    async with AsyncExitStack() as stack:
        if address.server is not None:
            stack.push_async_callback(anyio.to_thread.run_sync, address.server.release)
        ledgers: dict[int, Ledger] = {}
        for number in range(len(parts)) if served is None else served:
            store = AsyncStore(address_of(address, parts[number]), connections=2)
            stack.push_async_callback(store.close)
            ledgers[number] = Ledger(store, parts[number])
        yield Ledgers(ledgers) if len(parts) > 1 else ledgers[0]
