"""What the steward saves from workers: of a stuck one what it has not begun, of a dead one what ran out of time."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import timedelta

from docket.store.ledger import Ledger, Verdict
from docket_supervisor.board import Seat
from docket_supervisor.messages import HandOver

logger = logging.getLogger("docket.steward")

INTERVAL = 0.25
"""Seconds between two looks for workers that are stuck."""


async def settle_late(ledger: Ledger, order: HandOver) -> None:
    """What was over its time limit fails by it, or is tried again, now that it has certainly ended."""
    if order.late:
        await ledger.settle(order.worker_id, [_verdict(*late) for late in order.late])
        logger.warning(
            "settled %d executions of worker %s by their time limits", len(order.late), order.worker_id
        )


def _verdict(entry: str, verb: str, operand: int, allowed: float) -> Verdict:
    # After the fork only, like every room of the runtime.
    from docket_runtime import outcomes

    outcome = outcomes.when_too_late(verb, operand, timedelta(seconds=allowed))
    return (entry, outcome.verb, outcome.a, outcome.b)


def stuck(seats: Iterable[Seat]) -> list[tuple[str, Sequence[str]]]:
    """Workers that are to be relieved of what they have not begun, and the entries that each has."""
    return [
        (name, [running.entry for running in seat.inflight])
        for seat in seats
        if seat.evacuating and (name := seat.worker_id)
    ]
