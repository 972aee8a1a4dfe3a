"""How often, and after which pause, a failed task is tried again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NoReturn, Self

from docket import clock
from docket.dependencies.base import Dependency
from docket.durations import zero_or_more
from docket.errors import ForcedRetry

_FIRST_PAUSE = timedelta(seconds=1)
_LONGEST_PAUSE = timedelta(seconds=64)


class Retry(Dependency):
    """A failed attempt is followed by another one, `delay` later, until there were `attempts` in all (None: no end).

    Given `minimum_delay` or `maximum_delay` instead, the pause doubles after each attempt, as with `ExponentialRetry`.
    Inside the task, `attempt` counts from 1; `after` and `at` end the attempt and say when the next one is.
    """

    single = True

    def __init__(
        self,
        attempts: int | None = 1,
        delay: timedelta | None = None,
        *,
        minimum_delay: timedelta | None = None,
        maximum_delay: timedelta | None = None,
    ) -> None:
        if attempts is not None and (not isinstance(attempts, int) or attempts < 1):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"expected attempts to be at least 1 (or None for no limit), got {attempts!r}")
        doubles = minimum_delay is not None or maximum_delay is not None
        if doubles and delay is not None:
            raise ValueError("expected delay, or minimum_delay and maximum_delay, got both")
        for name, span in (
            ("delay", delay),
            ("minimum_delay", minimum_delay),
            ("maximum_delay", maximum_delay),
        ):
            if span is not None:
                zero_or_more(span, name)
        self.attempts = attempts
        self.minimum_delay = minimum_delay if minimum_delay is not None else _FIRST_PAUSE
        self.maximum_delay = maximum_delay if maximum_delay is not None else _LONGEST_PAUSE
        if not doubles:
            self.minimum_delay = self.maximum_delay = delay or timedelta(0)
        self.delay = self.minimum_delay
        self.attempt = 1
        if self.maximum_delay < self.minimum_delay:
            raise ValueError(
                f"expected maximum_delay to be at least minimum_delay ({self.minimum_delay}), got {self.maximum_delay}"
            )

    @classmethod
    def forever(cls, delay: timedelta = timedelta(0)) -> Self:
        return cls(None, delay)

    def pause_after(self, attempt: int) -> timedelta:
        """How long to wait after this attempt has failed."""
        doublings = min(attempt - 1, 62)
        if self.minimum_delay and self.maximum_delay / self.minimum_delay <= 2**doublings:
            return self.maximum_delay
        return self.minimum_delay * 2**doublings

    def for_attempt(self, attempt: int) -> Self:
        """A copy that a task may hold; the statement in the signature is shared by all its runs."""
        copy = self.__class__.__new__(self.__class__)
        copy.__dict__.update(self.__dict__)
        copy.attempt = attempt
        return copy

    def after(self, delay: timedelta) -> NoReturn:
        """Ends this attempt here; the next one, if one is left, is `delay` from now."""
        raise ForcedRetry(clock.now() + delay)

    def at(self, when: datetime) -> NoReturn:
        """Ends this attempt here; the next one, if one is left, is at `when`."""
        clock.to_us(when)
        raise ForcedRetry(when)

    def in_(self, delay: timedelta) -> NoReturn:
        """An older name of `after`."""
        self.after(delay)


class ExponentialRetry(Retry):
    """The pause doubles after each attempt, from `minimum_delay` up to `maximum_delay`."""

    def __init__(
        self,
        attempts: int | None = 1,
        minimum_delay: timedelta = _FIRST_PAUSE,
        maximum_delay: timedelta = _LONGEST_PAUSE,
    ) -> None:
        super().__init__(attempts, minimum_delay=minimum_delay, maximum_delay=maximum_delay)

    @classmethod
    def forever(cls, delay: timedelta = _FIRST_PAUSE, maximum_delay: timedelta = _LONGEST_PAUSE) -> Self:
        return cls(None, delay, maximum_delay)
