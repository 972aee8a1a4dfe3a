"""Whether a claimed execution may begin: its limits are named here, and granted by the ledger."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from docket import admission
from docket.admission import Refusal
from docket.dependencies.limits import Limit, Row
from docket.execution import Execution
from docket.message import Claimed
from docket.registry import Task

_ADMITTED = 3
_FIRST_REFUSAL = 10


class Waits(Exception):
    """It stands in line for one of its limits, or is not this worker's any more: there is nothing to settle."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """`names`: the parameter at which a limit is stated, and the name of that limit for this execution."""

    names: dict[str, str]


async def named(limits: tuple[Limit, ...], task: Task, execution: Execution) -> list[Row]:
    """The limits as they are called for this execution. Raises whatever the user's own strategy raises."""
    if limits == task.limits:
        known = admission.known_to_the_caller(task, execution.args, execution.kwargs)
        if known:
            return known
    rows: list[Row] = []
    for limit in limits:
        group: Any = limit.statement.strategy_at(limit.annotated).get_key(execution)
        rows.append(limit.row(await group if inspect.isawaitable(group) else group))
    return rows


class Gate:
    """Asks for permits by way of the exchange, which answers all that ask in one round trip."""

    def __init__(self, ask: Callable[[Claimed, str], None]) -> None:
        self._ask = ask
        self._asking: dict[str, asyncio.Future[int]] = {}

    async def admit(
        self, claimed: Claimed, rows: Sequence[Row], limits: tuple[Limit, ...]
    ) -> Admitted | Refusal:
        """Raises Waits if it is not to begin now."""
        words = admission.in_words(rows)
        # Whoever added it may have been of an older version: what counts is what this worker's code says.
        if claimed.admission != "=" + words:
            verdict = self._refusal_in(claimed.admission, words) or await self._verdict(claimed, words)
            if verdict >= _FIRST_REFUSAL:
                return Refusal(rows[verdict - _FIRST_REFUSAL - 1])
            if verdict != _ADMITTED:
                raise Waits
        return Admitted({limit.parameter: str(row[1]) for limit, row in zip(limits, rows, strict=True)})

    def _refusal_in(self, answer: str | None, words: str) -> int:
        """The claim may have been refused already, by exactly these limits; else 0."""
        if answer is None or not answer.startswith("!"):
            return 0
        number, _, asked = answer[1:].partition(":")
        return _FIRST_REFUSAL + int(number) if asked == words else 0

    async def _verdict(self, claimed: Claimed, words: str) -> int:
        future = self._asking[claimed.entry] = asyncio.get_running_loop().create_future()
        try:
            self._ask(claimed, words)
            return await future
        finally:
            del self._asking[claimed.entry]

    def judged(self, entry: str, verdict: int) -> None:
        future = self._asking.get(entry)
        if future is not None and not future.done():
            future.set_result(verdict)
