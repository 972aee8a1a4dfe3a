"""Which of the executions that are due goes first."""

from __future__ import annotations

import enum


class Priority(enum.StrEnum):
    """What is due is begun strictly in this order, except that now and then one of each lower level goes first: nothing
    starves. Redelivered work goes before everything else."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


_LANES = {Priority.HIGH: "h", Priority.NORMAL: "", Priority.LOW: "l"}


def checked(priority: Priority | str | None) -> Priority:
    """ValueError names the levels."""
    if priority is None:
        return Priority.NORMAL
    try:
        return Priority(priority)
    except ValueError:
        known = ", ".join(Priority)
        raise ValueError(f"expected priority to be one of {known}, got {priority!r}") from None


def lane_of(priority: Priority) -> str:
    """The lane in the ledger; empty: the main one."""
    return _LANES[priority]
