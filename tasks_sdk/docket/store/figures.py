"""How much a docket has to do, in numbers that cost no more the more it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from docket.store import scripts
from docket.store.keys import Keys
from docket.store.requests import Operation


@dataclass(frozen=True, slots=True)
class Figures:
    """`due`: claimed by nobody yet; `waiting`: due, but for something else than a worker (a limit, a strike that
    holds it, an earlier run of its key); `latency`: the seconds for which the oldest of those that are due has been."""

    due: int
    scheduled: int
    waiting: int
    dead: int
    latency: float

    @property
    def backlog(self) -> int:
        """All that neither runs nor was set aside."""
        return self.due + self.scheduled + self.waiting


def figures(keys: Keys) -> Operation[Figures]:
    """At this moment, in one round trip."""
    *counts, late_us = yield scripts.figures(keys)
    return Figures(*map(int, counts), latency=int(late_us) / 1e6)


def summed(parts: Sequence[Figures]) -> Figures:
    """Those of several ledgers as of one."""
    return Figures(
        sum(each.due for each in parts),
        sum(each.scheduled for each in parts),
        sum(each.waiting for each in parts),
        sum(each.dead for each in parts),
        max(each.latency for each in parts),
    )
