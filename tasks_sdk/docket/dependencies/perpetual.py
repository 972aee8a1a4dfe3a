"""Tasks that follow themselves: each run schedules the next one, under the same key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Self

from cronsim import CronSim

from docket import clock
from docket.dependencies.base import Dependency
from docket.durations import zero_or_more

_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class Perpetual(Dependency):
    """When a run has ended, whether it succeeded or failed for good, the next one is due `every` after it began (at
    once if that is past). `automatic`: workers that know the task see to it that it runs, under its own name as key.

    Inside the task `every` may be set, and `cancel`, `perpetuate`, `after` and `at` say what shall follow this run.
    """

    single = True

    def __init__(self, every: timedelta = timedelta(0), automatic: bool = False) -> None:
        self.every = every
        self.automatic = automatic
        self.cancelled = False
        self.arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self._next: datetime | None = None

    @property
    def every(self) -> timedelta:
        return self._every

    @every.setter
    def every(self, every: timedelta) -> None:
        # Checked here, because the task that sets it can still be told; the chain goes on with what it had.
        self._every = zero_or_more(every, "every")

    def for_run(self) -> Self:
        """A copy that a task may change; the statement in the signature is shared by all its runs."""
        copy = self.__class__.__new__(self.__class__)
        copy.__dict__.update(self.__dict__)
        return copy

    def cancel(self) -> None:
        """This run is the last one."""
        self.cancelled = True

    def perpetuate(self, *args: Any, **kwargs: Any) -> None:
        """The next run has these arguments instead of the same ones."""
        self.arguments = (args, kwargs)

    def after(self, delay: timedelta) -> None:
        """The next run is due `delay` from now, this once."""
        self._next = clock.now() + delay

    def at(self, when: datetime) -> None:
        """The next run is due at `when`, this once."""
        clock.to_us(when)
        self._next = when

    def due_after(self, began: datetime) -> datetime:
        """When the run is due that follows one that began then."""
        return self._next or self._following(began)

    def _following(self, began: datetime) -> datetime:
        return began + self.every

    def first_due(self) -> datetime | None:
        """When an automatic task is due for the first time; None: now."""
        return None


class Cron(Perpetual):
    """A perpetual task that is due at the times of a cron expression (five fields, or @daily and the like).

    A time that passes while a run goes on is made up for right after it, once; older ones are not. Raises
    `cronsim.CronSimError` for an expression that makes no sense.
    """

    def __init__(self, expression: str, automatic: bool = True, tz: tzinfo = UTC) -> None:
        super().__init__(automatic=automatic)
        self.expression = expression
        self.tz = tz
        self._following(clock.now())

    def next_time(self) -> datetime:
        """The next time after now."""
        return self._following(clock.now())

    def _following(self, began: datetime) -> datetime:
        expression = _NICKNAMES.get(self.expression, self.expression)
        return next(CronSim(expression, began.astimezone(self.tz))).astimezone(UTC)

    def first_due(self) -> datetime | None:
        return self.next_time()
