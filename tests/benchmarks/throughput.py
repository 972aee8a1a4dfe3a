"""How many tasks a second: added, and run by one process or by two."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.bench import Bench
from tests.benchmarks.contestants import Broken, Contestant, Player
from tests.benchmarks.programs import marks
from tests.benchmarks.results import Row, Target
from tests.benchmarks.server import Usage

CONCURRENCY = 100
PATIENCE = 15.0
"""Seconds without any progress."""


@dataclass(frozen=True)
class Drained:
    """`seconds` are from the first start to the last: how long a process takes to come up is not in it."""

    seconds: float
    worker_cpu: float
    usage: Usage


def drain(
    bench: Bench,
    contestant: Contestant,
    folder: Path,
    count: int,
    processes: int,
    concurrency: int = CONCURRENCY,
) -> Drained:
    """What lies in Redis has been run, every task exactly once, or Broken."""
    with ExitStack() as stack:
        players = [
            stack.enter_context(
                Player(contestant, bench.server.url, folder, "work", count=count, concurrency=concurrency)
            )
            for _ in range(processes)
        ]
        for player in players:
            player.answer()
        before = bench.server.usage()
        for player in players:
            player.tell()
        _wait(folder, count, contestant)
        time.sleep(0.05)  # the last settlements are on their way
        used = bench.server.usage().since(before)
        for player in players:
            player.tell()
        cpu = sum(player.answer()["cpu"] for player in players)
    marked = marks.read(folder, count)
    if fault := marked.fault():
        raise Broken(f"{contestant.name}: {fault}")
    return Drained(max(marked.starts) - min(marked.starts), cpu, used)


def _wait(folder: Path, count: int, contestant: Contestant) -> None:
    ran, since = 0, time.monotonic()
    while ran < count:
        time.sleep(0.1)
        before, ran = ran, marks.read(folder, count).ran
        if ran > before:
            since = time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            raise Broken(
                f"{contestant.name}: {ran} of {count} tasks have run, and no more for {PATIENCE:.0f} s"
            )


def enqueue(bench: Bench) -> list[Row]:
    one = Row("add, one at a time", "/s", more_is_better=True)
    bulk = Row("add, in bulk", "/s", more_is_better=True)
    size = Row("Redis memory per queued task", "bytes")
    for contestant in bench.turns(bench.all):
        for row, count, in_bulk in (
            (one, bench.amounts.added_singly, False),
            (bulk, bench.amounts.tasks, True),
        ):
            with bench.clean() as folder:
                before = bench.server.memory()
                told = contestant.ask(
                    bench.server.url, folder, "enqueue", task="nothing", count=count, bulk=in_bulk
                )
                row.add(contestant.name, count / told["seconds"])
                if in_bulk:
                    size.add(contestant.name, (bench.server.memory() - before) / count)
    return [one, bulk, size]


def _drain_rows(bench: Bench, task: str, label: str, target: Target | None) -> list[Row]:
    """One process, and two."""
    count = bench.amounts.tasks
    rows: list[Row] = []
    for processes in (1, 2):
        row = Row(f"{label}, {processes} process{'es' * (processes - 1)}", "/s", more_is_better=True)
        row.target = target if processes == 1 else None
        cpu = Row("   CPU of the worker per task", "µs")
        rows += [row, cpu] if processes == 1 else [row]
        for contestant in bench.turns(bench.all):
            drained = _one(bench, contestant, task, count, processes)
            row.add(contestant.name, count / drained.seconds)
            cpu.add(contestant.name, drained.worker_cpu / count * 1e6)
            if task == "nothing" and processes == 1:
                rows += [] if len(rows) > 2 else _ledger_rows()
                for ledger, value in zip(rows[2:5], _per_task(drained.usage, count), strict=True):
                    ledger.add(contestant.name, value)
    return rows


def _one(
    bench: Bench,
    contestant: Contestant,
    task: str,
    count: int,
    processes: int,
    concurrency: int = CONCURRENCY,
) -> Drained:
    with bench.clean() as folder:
        contestant.ask(bench.server.url, folder, "enqueue", task=task, count=count, bulk=True)
        return drain(bench, contestant, folder, count, processes, concurrency)


def _ledger_rows() -> list[Row]:
    return [
        Row("   script calls per task", "", target=Target("≤ 0.1", most=0.1)),
        Row("   Redis commands per task, those in scripts counted", ""),
        Row("   CPU of Redis per task", "µs"),
    ]


def _per_task(usage: Usage, count: int) -> tuple[float, float, float]:
    return usage.scripts / count, usage.commands / count, usage.cpu / count * 1e6


def drain_async(bench: Bench) -> list[Row]:
    return _drain_rows(bench, "nothing", "no-op async tasks", Target("≥ 8 × pydocket", times=8))


def drain_sync(bench: Bench) -> list[Row]:
    return _drain_rows(bench, "nothing_sync", "no-op sync tasks", None)


def rest(bench: Bench) -> list[Row]:
    """2,000 × 50 ms, a hundred at a time, takes a second at best."""
    row = Row("2,000 × sleep 50 ms, 100 at a time: ideal ÷ taken", "", more_is_better=True)
    count = 2_000
    for contestant in bench.turns(bench.rivals):
        taken = _one(bench, contestant, "rest", count, 1).seconds + 0.05
        row.add(contestant.name, count / CONCURRENCY * 0.05 / taken)
    return [row]


def compute(bench: Bench) -> list[Row]:
    row = Row("sync tasks of 10 ms CPU, 2 processes", "/s", more_is_better=True)
    count = bench.amounts.tasks // 40
    for contestant in bench.turns(bench.rivals):
        row.add(contestant.name, count / _one(bench, contestant, "compute", count, 2, concurrency=10).seconds)
    return [row]
