"""What the steward saves from workers: of a stuck one what it has not begun, of a dead one what ran out of time."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import timedelta

from docket.settings import DocketSettings
from docket.store.ledger import Verdict
from docket.store.ledgers import AnyLedger
from docket_supervisor.board import Seat
from docket_supervisor.messages import HandOver

logger = logging.getLogger("docket.steward")

INTERVAL = 0.25
"""Seconds between two looks for workers that are stuck."""


async def settle_late(ledger: AnyLedger, docket: DocketSettings, order: HandOver) -> None:
    """What was over its time limit fails by it, or is tried again, now that it has certainly ended."""
    if order.late:
        await ledger.settle(order.worker_id, [_verdict(docket, *late) for late in order.late])
        logger.warning(
            "settled %d executions of worker %s by their time limits", len(order.late), order.worker_id
        )


def _verdict(docket: DocketSettings, entry: str, verb: str, operand: int, allowed: float) -> Verdict:
    # After the fork only, like every room of the runtime.
    from docket.payload import Door
    from docket_runtime import outcomes

    door, limit = Door.of(docket), timedelta(seconds=allowed)

    def outcome(function: str = "", key: str = "", nonce: bytes | None = None) -> outcomes.Outcome:
        wrapping = outcomes.Wrapping(door, function, key, nonce)
        return outcomes.when_too_late(verb, operand, limit, wrapping)

    found = outcome()
    if found.verb != "failed":
        return (entry, found.verb, found.a, found.b)

    def exception(function: str, key: str, nonce: bytes | None) -> str | bytes:
        # Signed as that of its call, which the ledger looks up.
        return outcome(function, key, nonce).b

    return (entry, found.verb, found.a, exception)


def stuck(seats: Iterable[Seat]) -> list[tuple[str, Sequence[str]]]:
    """Workers that are to be relieved of what they have not begun, and the entries that each has begun: also those
    that have ended, whose outcomes its loop has not sent yet."""
    found: list[tuple[str, Sequence[str]]] = []
    for seat in seats:
        if seat.evacuating and (holder := seat.holder):
            begun = seat.begun
            # Still there: an empty seat's list is empty, and everything would be taken for not begun.
            if seat.holder == holder:
                found.append((holder[1], begun))
    return found
