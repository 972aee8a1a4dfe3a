"""What passes between the exchange and the rest of a worker: settlements, rounds under way, what replies tell."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol

from docket.message import Claimed
from docket_runtime.outcomes import Outcome

Settlement = tuple[str, str, str, str | bytes | int, str | bytes]
"""Entry, key, and the outcome: its verb and operands."""


def settlement_of(claimed: Claimed, outcome: Outcome) -> Settlement:
    return (claimed.entry, claimed.key, outcome.verb, outcome.a, outcome.b)


@dataclass(frozen=True, slots=True)
class Round:
    """One exchange that was sent: how much it carries, how many slots it may fill, and what was known by then."""

    reply: asyncio.Future[Any]
    worker_id: str
    settlements: int
    deliveries: int
    free: int
    for_a_suspect: bool
    called_out: int
    suspected: int
    sent_at: float


@dataclass(frozen=True, slots=True)
class Brought:
    """What a blocked read brought, if anything, and what the script behind it replied. `recoveries`: so many had been
    begun when it was sent; one since then may have claimed the same, and that may have ended."""

    worker_id: str
    entry: str
    key: str
    reply: Any
    recoveries: int


class Crew(Protocol):
    """What the exchange asks of the rest of the worker."""

    @property
    def worker_id(self) -> str: ...

    def begin(self, claimed: Claimed) -> None: ...
    def return_unbegun(self, claimed: Claimed) -> None: ...
    def settled(self, key: str) -> None: ...
    def judged(self, entry: str, verdict: int) -> None: ...
    def superseded(self) -> None: ...
    async def heed(self, version: bytes | None) -> None: ...
    async def lapse(self) -> None: ...
