"""How long from the moment at which a task could start until it does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.benchmarks.bench import Bench
from tests.benchmarks.contestants import Broken, Contestant, Player
from tests.benchmarks.programs import marks
from tests.benchmarks.results import Row, Target, percentile

CONCURRENCY = 10
PATIENCE = 30.0


def _lags(
    bench: Bench, contestant: Contestant, folder: Path, role: str, count: int, concurrency: int, **config: Any
) -> list[float]:
    """Milliseconds, one for each task; Broken unless every task was started once and none too early."""
    with Player(contestant, bench.server.url, folder, "work", count=count, concurrency=concurrency) as worker:
        worker.answer()
        worker.tell()
        time.sleep(0.3)
        moments = contestant.ask(bench.server.url, folder, role, count=count, **config)["moments"]
        give_up_at = time.monotonic() + PATIENCE
        while marks.read(folder, count).ran < count and time.monotonic() < give_up_at:
            time.sleep(0.1)
    marked = marks.read(folder, count)
    if fault := marked.fault():
        raise Broken(f"{contestant.name}: {fault}")
    lags = [(start - moment) * 1000 for start, moment in zip(marked.starts, moments, strict=True)]
    if min(lags) < -1:
        raise Broken(f"{contestant.name}: a task began {-min(lags):.1f} ms before it was due")
    return lags


def _measure(
    bench: Bench, name: str, contestants: list[Contestant], target: Target | None, role: str, **config: Any
) -> list[Row]:
    p50, p99 = Row(f"{name}, p50", "ms", target=target), Row(f"{name}, p99", "ms")
    for contestant in bench.turns(contestants):
        with bench.clean() as folder:
            lags = _lags(bench, contestant, folder, role, **config)
        p50.add(contestant.name, percentile(lags, 0.5))
        p99.add(contestant.name, percentile(lags, 0.99))
    return [p50, p99]


def latency(bench: Bench) -> list[Row]:
    name = "idle system: add → start"
    return _measure(
        bench, name, bench.all, None, "trickle", count=bench.amounts.trickled, concurrency=CONCURRENCY
    )


def due(bench: Bench) -> list[Row]:
    """All at one moment, and one after the other."""
    target = Target("< 10 ms", most=10)
    at_once, spread = bench.amounts.due_at_once, bench.amounts.due_spread
    return [
        *_measure(
            bench,
            f"{at_once} due at one moment: lag",
            bench.rivals,
            target,
            "plan",
            count=at_once,
            concurrency=100,
            over=0,
        ),
        *_measure(
            bench,
            f"{spread} due over 2 s: lag",
            bench.rivals,
            target,
            "plan",
            count=spread,
            concurrency=CONCURRENCY,
            over=2,
        ),
    ]
