"""What there is comes to for each task: how much of it waits, runs or is late."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from docket.execution import ExecutionView
from docket.states import ExecutionState


@dataclass(slots=True)
class TaskStatistics:
    """Of one task. `overdue` counts, among what waits, what ought to have begun by then; `oldest_overdue` is the moment
    at which the first of them was due. `total` is what waits or runs; dead letters are counted apart."""

    task: str
    total: int = 0
    running: int = 0
    queued: int = 0
    scheduled: int = 0
    overdue: int = 0
    dead: int = 0
    oldest_queued: datetime | None = None
    latest_queued: datetime | None = None
    oldest_overdue: datetime | None = None

    def count(self, execution: ExecutionView, taken: datetime) -> None:
        """One that waits or runs."""
        self.total += 1
        if execution.state is ExecutionState.RUNNING:
            self.running += 1
            return
        when = execution.when
        if execution.state is ExecutionState.QUEUED:
            self.queued += 1
            self.oldest_queued = when if self.oldest_queued is None else min(self.oldest_queued, when)
            self.latest_queued = when if self.latest_queued is None else max(self.latest_queued, when)
        else:
            self.scheduled += 1
        if when <= taken:
            self.overdue += 1
            self.oldest_overdue = when if self.oldest_overdue is None else min(self.oldest_overdue, when)


class Statistics:
    """Of every task that it is shown something of."""

    def __init__(self, taken: datetime) -> None:
        self._taken = taken
        self._found: dict[str, TaskStatistics] = {}

    def see(self, execution: ExecutionView) -> None:
        """One that waits, runs or was set aside."""
        each = self._found.get(execution.function_name)
        if each is None:
            each = self._found[execution.function_name] = TaskStatistics(execution.function_name)
        if execution.state is ExecutionState.FAILED:
            each.dead += 1
        else:
            each.count(execution, self._taken)

    @property
    def per_task(self) -> list[TaskStatistics]:
        """Those with most to do first."""
        return sorted(self._found.values(), key=lambda each: (-each.total, each.task))
