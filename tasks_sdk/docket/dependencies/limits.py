"""When an execution that is due may begin. What is stated here is decided in Redis, for all processes at once."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from docket.dependencies.base import Dependency
from docket.dependencies.strategies import (
    ArgumentStrategy,
    ByArguments,
    ByTask,
    ConcurrencyStrategy,
    strategy_of,
)
from docket.durations import positive

Row = list[str | int]
"""One limit of one call as the ledger keeps it; `lua/_permits.lua` lists the kinds."""


class ConflictResolution(enum.StrEnum):
    """What becomes of an execution for which a concurrency limit has no permit."""

    QUEUE = "queue"
    """It waits in line, in order of arrival, without holding a slot of a worker."""
    CANCEL = "cancel"
    """It ends CANCELLED, and with it the chain of a perpetual task."""
    SKIP = "skip"
    """It ends CANCELLED; a perpetual task goes on with its next run."""
    REPLACE = "replace"
    """The oldest that holds a permit is cancelled, and this one begins when that one has ended."""


class Admission(Dependency):
    """A limit that must admit an execution before it begins. All limits of a task admit together, or none does.

    As the default of a parameter it counts the executions of the task; in the annotation of a parameter those with the
    same value of it; unless `limit_by` says otherwise.
    """

    precedence = 0
    """Limits are asked in this order: first what could refuse a call for good, last what it would have to wait for."""

    def __init__(self, limit_by: Any, scope: str | None) -> None:
        if scope is not None and not scope:
            raise ValueError("expected a scope of at least one character, got ''")
        self.strategy = strategy_of(limit_by)
        self.scope = scope
        self.group: str | None = None
        """The name of the limit for the execution that it was injected into; None in the signature."""

    def strategy_at(self, annotated: str | None) -> ConcurrencyStrategy:
        if self.strategy is not None:
            return self.strategy
        return ByTask() if annotated is None else ByArguments((annotated,))

    def named(self, group: Any) -> str:
        """The limit's name: the group, beneath the scope if there is one."""
        text = (group if isinstance(group, str) else str(group)).encode("utf-8", "replace").decode()
        if not text:
            raise ValueError(f"{type(self).__name__} was given an empty key to limit by")
        return text if self.scope is None else f"{self.scope}:{text}"

    def family_at(self, annotated: str | None) -> str:
        strategy = self.strategy_at(annotated)
        family = strategy.family if isinstance(strategy, ArgumentStrategy) else ""
        return self.named(family) if family else self.scope or ""

    def row(self, name: str, family: str) -> Row:
        raise NotImplementedError

    def for_run(self, name: str | None) -> Self:
        """A copy that a task may hold."""
        copy = self.__class__.__new__(self.__class__)
        copy.__dict__.update(self.__dict__)
        copy.group = name
        return copy

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.strategy!r})"


class ConcurrencyLimit(Admission):
    """At most `max_concurrent` executions of one group run at once, on all workers together.

    `limit_by`: the name of a parameter, a list of names, or a strategy of `LIMIT_BY`. `on_conflict`: what becomes of
    one that finds no permit free. `scope` keeps limits apart that would have the same name. `docket limits set` can
    change the number while everything runs. `ConcurrencyLimit(3)` is short for `ConcurrencyLimit(max_concurrent=3)`.
    """

    def __init__(
        self,
        limit_by: str | Iterable[str] | ConcurrencyStrategy | int | None = None,
        max_concurrent: int = 1,
        scope: str | None = None,
        *,
        on_conflict: ConflictResolution | str = ConflictResolution.QUEUE,
        argument_name: str | None = None,
    ) -> None:
        if isinstance(limit_by, int):
            limit_by, max_concurrent = None, limit_by
        if argument_name is not None and limit_by is not None:
            raise ValueError("expected limit_by or argument_name, got both: they mean the same")
        super().__init__(limit_by if argument_name is None else argument_name, scope)
        if not isinstance(max_concurrent, int) or max_concurrent < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"expected max_concurrent to be at least 1, got {max_concurrent!r}")
        self.max_concurrent = max_concurrent
        try:
            self.on_conflict = ConflictResolution(on_conflict)
        except ValueError:
            known = ", ".join(ConflictResolution)
            raise ValueError(f"expected on_conflict to be one of {known}, got {on_conflict!r}") from None
        self.precedence = {"cancel": 0, "skip": 0, "replace": 2}.get(self.on_conflict, 3)

    @property
    def argument_name(self) -> str | None:
        """The one parameter that it limits by, if that is what it does."""
        names = self.strategy.names if isinstance(self.strategy, ByArguments) else ()
        return names[0] if len(names) == 1 else None

    @property
    def concurrency_key(self) -> str:
        """The key in Redis whose SCARD tells how many permits are held. RuntimeError outside of a task."""
        if self.group is None:
            raise RuntimeError("only the limit that a running task was given has a concurrency_key")
        return self.docket.get().keys.concurrency(self.group)

    def row(self, name: str, family: str) -> Row:
        return ["c", name, self.max_concurrent, self.on_conflict.value, family]


class RateLimit(Admission):
    """At most `limit` executions of one group begin in any span of `per`, counted from when each is let in.

    What is over the limit waits in line until the oldest start has left the window, or is cancelled with `drop=True`.
    Every attempt is a start: a retry too calls what is protected by it.
    """

    def __init__(
        self,
        limit: int,
        *,
        per: timedelta,
        drop: bool = False,
        scope: str | None = None,
        limit_by: str | Iterable[str] | ConcurrencyStrategy | None = None,
    ) -> None:
        super().__init__(limit_by, scope)
        if not isinstance(limit, int) or limit < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"expected limit to be at least 1, got {limit!r}")
        self.limit, self.per, self.drop = limit, positive(per, "per"), drop
        self.precedence = 0 if drop else 4

    def row(self, name: str, family: str) -> Row:
        return ["r", name, self.limit, _microseconds(self.per), "drop" if self.drop else "wait"]


class Cooldown(Admission):
    """After an execution of a group has begun, others of that group are cancelled for the span of `window`.

    The task's own retries and redeliveries are never dropped.
    """

    def __init__(
        self,
        window: timedelta,
        *,
        scope: str | None = None,
        limit_by: str | Iterable[str] | ConcurrencyStrategy | None = None,
    ) -> None:
        super().__init__(limit_by, scope)
        self.window = positive(window, "window")

    def row(self, name: str, family: str) -> Row:
        return ["w", name, _microseconds(self.window)]


class Debounce(Admission):
    """Of calls that follow each other in less than `settle` only one runs.

    `edge="trailing"`: the latest, with its arguments, when none has come for `settle`; the earlier ones end CANCELLED.
    `edge="leading"`: the first, at once; those that follow within `settle` of each other end CANCELLED.
    """

    single = True
    precedence = 1

    def __init__(
        self,
        settle: timedelta,
        *,
        edge: str = "trailing",
        scope: str | None = None,
        limit_by: str | Iterable[str] | ConcurrencyStrategy | None = None,
    ) -> None:
        super().__init__(limit_by, scope)
        if edge not in ("trailing", "leading"):
            raise ValueError(f"expected edge to be 'trailing' or 'leading', got {edge!r}")
        self.settle, self.edge = positive(settle, "settle"), edge

    def row(self, name: str, family: str) -> Row:
        return ["b", name, _microseconds(self.settle), self.edge]


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit where it stands: as a default (`annotated` is None) or in the annotation of a parameter."""

    parameter: str
    annotated: str | None
    statement: Admission

    def row(self, group: Any) -> Row:
        """For the ledger; `group`: which of the executions it counts together."""
        return self.statement.row(self.statement.named(group), self.statement.family_at(self.annotated))


def limits_among(
    defaults: Iterable[tuple[str, Dependency]], annotated: Iterable[tuple[str, Dependency]] = ()
) -> tuple[Limit, ...]:
    """The limits among a task's statements."""
    limits = [Limit(name, None, each) for name, each in defaults if isinstance(each, Admission)]
    limits += [Limit(name, name, each) for name, each in annotated if isinstance(each, Admission)]
    return in_order(limits)


def in_order(limits: Iterable[Limit]) -> tuple[Limit, ...]:
    """First those that could refuse a call for good: who is refused need not have waited."""
    return tuple(sorted(limits, key=lambda limit: limit.statement.precedence))


def _microseconds(span: timedelta) -> int:
    return span // timedelta(microseconds=1)
