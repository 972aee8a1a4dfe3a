"""The states of an execution."""

from __future__ import annotations

import enum


class ExecutionState(enum.StrEnum):
    """The life of an execution: scheduled (parked until due) → queued → running → one of the three ends."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (ExecutionState.COMPLETED, ExecutionState.FAILED, ExecutionState.CANCELLED)
