"""What ours is held to: the table of goals, as data. Ratios are between figures of one run; the rest is absolute."""

from __future__ import annotations

from collections.abc import Iterable

from tests.benchmarks.results import Row, Target

GOALS = {
    "drain.async.1": Target(times=10, best=6, floor=0.3, absolute="25,000"),
    "drain.async.2": Target(times=12, best=4, absolute="35,000"),
    "drain.sync.1": Target(times=5, absolute="12,000"),
    "drain.sync.2": Target(times=4, absolute="20,000"),
    "add.one": Target(times=2, absolute="5,000"),
    "add.bulk": Target(times=3, absolute="35,000"),
    "rest": Target(least=0.93),
    "compute": Target(best=1),
    "latency.p50": Target(most=1.2),
    "latency.p99": Target(most=2.5),
    "due.once.p50": Target(times=10, absolute="15 ms"),
    "due.once.p99": Target(times=10, absolute="40 ms"),
    "due.spread.p50": Target(most=1.5),
    "due.spread.p99": Target(most=4),
    "memory.extra": Target(most=6),
    "idle.2.commands": Target(most=10),
    "idle.2.cpu": Target(most=0.02),
    "idle.8.commands": Target(most=60),
    "idle.8.cpu": Target(most=0.2),
    "ledger.scripts": Target(most=0.05),
    "ledger.commands": Target(most=10),
    "ledger.redis": Target(most=20),
    "add.bytes": Target(most=300),
    "limits.short": Target(most=80),
    "limits.nothing": Target(times=5),
    "limits.beside": Target(least=0.9),
    "recovery.p50": Target(most=250),
}


def set_goals(rows: Iterable[Row]) -> None:
    """A row that brings a target of its own keeps it."""
    for row in rows:
        row.target = row.target or GOALS.get(row.key)
