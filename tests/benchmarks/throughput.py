"""How many tasks a second: added, and run by one process or by two."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.bench import Bench
from tests.benchmarks.contestants import Broken, Contestant
from tests.benchmarks.crew import Crew
from tests.benchmarks.peers import Work
from tests.benchmarks.programs import marks
from tests.benchmarks.results import Row
from tests.benchmarks.server import Usage

CONCURRENCY = 100
PATIENCE = 15.0
"""Seconds without any progress."""


@dataclass(frozen=True)
class Drained:
    """`seconds` are from the first start to the last: how long a process takes to come up is not in it; nor is it in
    `rate`, where the time counts from when all processes have begun. `usage` and
    `worker_cpu` are those of `observed` tasks: a peer that is coming up is not looked at before its first."""

    seconds: float
    rate: float
    worker_cpu: float
    usage: Usage
    observed: int


def drain(
    bench: Bench,
    contestant: Contestant,
    folder: Path,
    count: int,
    processes: int,
    concurrency: int = CONCURRENCY,
    task: str = "nothing",
) -> Drained:
    """What lies in Redis has been run, every task exactly once, or Broken."""
    crew = Crew(bench, contestant, folder, count, Work(task, processes, concurrency))
    try:
        before = crew.begin()
        wait_for_all(folder, count, contestant.name)
        time.sleep(0.05)  # the last settlements are on their way
        after = crew.end()
    finally:
        crew.close()
    marked = marks.read(folder, count)
    if fault := marked.fault():
        raise Broken(f"{contestant.name}: {fault}")
    seconds = max(marked.starts) - min(marked.starts)
    usage = after.usage.since(before.usage)
    return Drained(seconds, marked.rate, after.cpu - before.cpu, usage, count - before.ran)


def wait_for_all(folder: Path, count: int, who: str) -> None:
    """All have begun; Broken if there is no progress any more."""
    ran, since = 0, time.monotonic()
    while ran < count:
        time.sleep(0.1)
        before, ran = ran, marks.ran(folder, count)
        if ran > before:
            since = time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            raise Broken(f"{who}: {ran} of {count} tasks have run, and no more for {PATIENCE:.0f} s")


def enqueue(bench: Bench) -> list[Row]:
    one = Row("add, one at a time", "/s", more_is_better=True, key="add.one")
    bulk = Row("add, in bulk", "/s", more_is_better=True, key="add.bulk")
    size = Row("Redis memory per queued task", "bytes", key="add.bytes")

    def singly(contestant: Contestant) -> None:
        count = bench.amounts.added_singly
        with bench.clean() as folder:
            one.add(contestant.name, count / _add(bench, contestant, folder, "nothing", count, bulk=False))

    def together(contestant: Contestant) -> None:
        count = bench.count(contestant)
        with bench.clean() as folder:
            before = bench.server.memory()
            taken = _add(bench, contestant, folder, "nothing", count)
            if "bulk" not in contestant.cannot:
                bulk.add(contestant.name, count / taken)
            size.add(contestant.name, (bench.server.memory() - before) / count)

    bench.repeat(bench.all, [one], singly)
    bench.repeat(bench.all, [bulk, size], together)
    for contestant in bench.peers:
        if why := contestant.cannot.get("bulk"):
            bulk.absent[contestant.name] = why
    return [one, bulk, size]


def _add(
    bench: Bench, contestant: Contestant, folder: Path, task: str, count: int, *, bulk: bool = True
) -> float:
    """Seconds. Who cannot add in bulk adds as many at a time as it can."""
    name = contestant.task(task)
    return contestant.ask(bench.server.url, folder, "enqueue", task=name, count=count, bulk=bulk)["seconds"]


def _one(
    bench: Bench,
    contestant: Contestant,
    task: str,
    count: int,
    processes: int,
    concurrency: int = CONCURRENCY,
) -> Drained:
    with bench.clean() as folder:
        _add(bench, contestant, folder, task, count)
        return drain(bench, contestant, folder, count, processes, concurrency, task)


def drain_async(bench: Bench) -> list[Row]:
    """One process, with what it costs Redis, and two."""
    ledger = [
        Row("   script calls per task", "", key="ledger.scripts"),
        Row("   Redis commands per task, those in scripts counted", "", key="ledger.commands"),
        Row("   CPU of Redis per task", "µs", key="ledger.redis"),
    ]
    one, cpu = _drain(bench, "nothing", "no-op async tasks", "async", 1, ledger)
    two, _ = _drain(bench, "nothing", "no-op async tasks", "async", 2)
    return [one, cpu, *ledger, two]


def drain_sync(bench: Bench) -> list[Row]:
    ledger = [
        Row("   Redis commands per task, those in scripts counted", "", key="ledger.sync.commands"),
        Row("   CPU of Redis per task", "µs", key="ledger.sync.redis"),
    ]
    one, cpu = _drain(bench, "nothing_sync", "no-op sync tasks", "sync", 1, ledger)
    two, _ = _drain(bench, "nothing_sync", "no-op sync tasks", "sync", 2)
    return [one, cpu, *ledger, two]


def _drain(
    bench: Bench, task: str, label: str, kind: str, processes: int, ledger: Sequence[Row] = ()
) -> tuple[Row, Row]:
    row = Row(f"{label}, {processes} process{'es' * (processes - 1)}", "/s", more_is_better=True)
    row.key = f"drain.{kind}.{processes}"
    cpu = Row("   CPU of the worker per task", "µs", key=f"cpu.{kind}.{processes}")

    def once(contestant: Contestant) -> None:
        count = bench.count(contestant)
        drained = _one(bench, contestant, task, count, processes)
        row.add(contestant.name, drained.rate)
        cpu.add(contestant.name, drained.worker_cpu / drained.observed * 1e6)
        usage = drained.usage
        costs = (usage.scripts, usage.commands, usage.cpu * 1e6)
        for each, value in zip(reversed(ledger), reversed(costs), strict=False):
            each.add(contestant.name, value / drained.observed)

    bench.repeat(bench.all, [row, cpu, *ledger], once, needs=[kind])
    return row, cpu


def rest(bench: Bench) -> list[Row]:
    """2,000 × 50 ms, a hundred at a time, takes a second at best."""
    row = Row("2,000 × sleep 50 ms, 100 at a time: ideal ÷ taken", "", more_is_better=True, key="rest")
    count = 2_000

    def once(contestant: Contestant) -> None:
        taken = _one(bench, contestant, "rest", count, 1).seconds + 0.05
        row.add(contestant.name, count / CONCURRENCY * 0.05 / taken)

    bench.repeat(bench.rivals, [row], once, needs=["rest"])
    return [row]


def compute(bench: Bench) -> list[Row]:
    row = Row("sync tasks of 10 ms CPU, 2 processes", "/s", more_is_better=True, key="compute")
    # Long enough that it does not matter how many are under way when the last one begins.
    count = bench.amounts.tasks // 20

    def once(contestant: Contestant) -> None:
        row.add(contestant.name, _one(bench, contestant, "compute", count, 2, concurrency=10).rate)

    bench.repeat(bench.rivals, [row], once)
    return [row]
