"""The limits of one call, put into words that the ledger understands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from docket.dependencies.limits import Row
from docket.dependencies.strategies import ArgumentStrategy
from docket.registry import Task


@dataclass(frozen=True, slots=True)
class _Call:
    """A call as limits look at it that need no worker to be named."""

    function_name: str
    parameters: Mapping[str, Any]


def in_words(rows: Sequence[Row]) -> str:
    return json.dumps(rows, separators=(",", ":"))


def known_to_the_caller(task: Task | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Row]:
    """The limits of a call, if they follow from its arguments; else none, and its worker will say.

    It spares a round trip, and what only has to wait never passes through a worker.
    """
    if task is None or not task.limits:
        return []
    try:
        call = _Call(task.name, task.arguments(args, kwargs))
        rows: list[Row] = []
        for limit in task.limits:
            strategy = limit.statement.strategy_at(limit.annotated)
            if not isinstance(strategy, ArgumentStrategy):
                return []
            rows.append(limit.row(strategy.group(call)))
        return rows
    except Exception:
        return []  # a __str__ that fails, for one: its worker fails the execution by it, with the whole traceback


class Refusal:
    """A limit that does not admit an execution, and will not by waiting."""

    def __init__(self, row: Row) -> None:
        self.row: list[Any] = list(row)

    @property
    def skips(self) -> bool:
        """Whether it is only this run that does not take place: a perpetual task goes on."""
        return not (self.row[0] == "c" and self.row[3] == "cancel")

    @property
    def reason(self) -> str:
        kind, name, *rest = self.row
        match kind:
            case "c":
                return f"its concurrency limit {name} has no permit free"
            case "r":
                return f"its rate limit {name} ({rest[0]} in {rest[1] / 1e6:g} s) is used up"
            case "w":
                return f"{name} is cooling down for {rest[0] / 1e6:g} s after a run"
            case _:
                return f"debounced: another call of {name} was there first or has taken its place"
