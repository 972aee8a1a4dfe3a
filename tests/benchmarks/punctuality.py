"""How long from the moment at which a task could start until it does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks.bench import Bench
from tests.benchmarks.contestants import Broken, Contestant, Player
from tests.benchmarks.crew import WARM_UP, standing_by
from tests.benchmarks.peers import Peer
from tests.benchmarks.programs import marks
from tests.benchmarks.results import Row, percentile

CONCURRENCY = 10
PATIENCE = 30.0
AHEAD, AHEAD_OF_PEERS = 0.8, 2.0
"""Seconds from the beginning of planning until the first task is due: the slower take longer to plan."""


@contextmanager
def _working(
    bench: Bench, contestant: Contestant, folder: Path, role: str, count: int, concurrency: int
) -> Iterator[int]:
    """A worker process that has nothing to do; how many marks there are to be."""
    if isinstance(contestant, Peer):
        purpose = "due" if role == "plan" else "nothing"
        with standing_by(bench, contestant, folder, 1, count, purpose, concurrency):
            time.sleep(0.3)
            yield count + WARM_UP
        return
    with Player(contestant, bench.server.url, folder, "work", count=count, concurrency=concurrency) as worker:
        worker.answer()
        worker.tell()
        time.sleep(0.3)
        yield count


def _lags(
    bench: Bench, contestant: Contestant, folder: Path, role: str, count: int, concurrency: int, **config: Any
) -> list[float]:
    """Milliseconds, one for each task; Broken unless every task was started once and none too early."""
    with _working(bench, contestant, folder, role, count, concurrency) as most:
        config |= {"task": contestant.task("nothing"), "count": count}
        config["ahead"] = AHEAD_OF_PEERS if isinstance(contestant, Peer) else AHEAD
        answer = contestant.ask(bench.server.url, folder, role, **config)
        if late := answer.get("late"):
            raise Broken(f"{contestant.name}: {late}")
        give_up_at = time.monotonic() + PATIENCE
        while marks.ran(folder, most) < most and time.monotonic() < give_up_at:
            time.sleep(0.1)
    marked = marks.read(folder, most)
    if fault := marked.fault():
        raise Broken(f"{contestant.name}: {fault}")
    starts = marked.starts[:count]
    lags = [(start - moment) * 1000 for start, moment in zip(starts, answer["moments"], strict=True)]
    if min(lags) < -1:
        raise Broken(f"{contestant.name}: a task began {-min(lags):.1f} ms before it was due")
    return lags


def _measure(
    bench: Bench, name: str, key: str, contestants: list[Contestant], role: str, count: int, **config: Any
) -> list[Row]:
    p50 = Row(f"{name}, p50", "ms", key=f"{key}.p50")
    p99 = Row(f"{name}, p99", "ms", key=f"{key}.p99")

    def once(contestant: Contestant) -> None:
        with bench.clean() as folder:
            lags = _lags(bench, contestant, folder, role, count, **config)
        p50.add(contestant.name, percentile(lags, 0.5))
        p99.add(contestant.name, percentile(lags, 0.99))

    bench.repeat([each for each in contestants if not isinstance(each, Peer)], [p50, p99], once)
    bench.repeat([each for each in contestants if isinstance(each, Peer)], [p50, p99], once, repetitions=1)
    return [p50, p99]


def latency(bench: Bench) -> list[Row]:
    name, count = "idle system: add → start", bench.amounts.trickled
    return _measure(bench, name, "latency", bench.all, "trickle", count, concurrency=CONCURRENCY)


def due(bench: Bench) -> list[Row]:
    """All at one moment, and one after the other."""
    at_once, spread = bench.amounts.due_at_once, bench.amounts.due_spread
    name = f"{at_once} due at one moment: lag"
    together = _measure(bench, name, "due.once", bench.rivals, "plan", at_once, concurrency=100, over=0)
    name = f"{spread} due over 2 s: lag"
    return together + _measure(
        bench, name, "due.spread", bench.rivals, "plan", spread, concurrency=CONCURRENCY, over=2
    )
