"""Tasks that only compute, by one process and by two: does the second one bring its core?

Beside the clock, CPU is counted: what is not the tasks' own (the workers' part, Redis, the steward) is what two
processes on two cores cannot have. From it follows what the ratio comes to where nobody else is at work.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from docket.sync import Docket
from tests.benchmarks.bench import Bench
from tests.benchmarks.contestants import PROGRAMS, Broken
from tests.benchmarks.programs import marks
from tests.benchmarks.started import PATIENCE, Started

CPU = 0.010
"""Seconds that each task takes."""
KINDS = {"crunch": "sync", "crunch_on_the_loop": "async"}
CONCURRENCY = 10


@dataclass(frozen=True)
class Run:
    """`rate`: tasks a second. The others are seconds of CPU per task: of the workers (and of whoever looks after them),
    the tasks' own included, and of Redis."""

    rate: float
    workers: float
    redis: float


def _commands(url: str, processes: int, supervised: bool) -> list[str]:
    options = f"--docket bench --url {url} --concurrency {CONCURRENCY} --tasks crunching:tasks"
    if supervised:
        options += f" --processes {processes} --app-dir {PROGRAMS} --log-level WARNING"
        return [f"docket_supervisor {options}"]
    return [f"docket worker {options} --logging-level WARNING"] * processes


def _once(bench: Bench, task: str, processes: int, supervised: bool, count: int) -> Run:
    with bench.clean() as folder, Docket("bench", bench.server.url) as docket:
        commands = _commands(bench.server.url, processes, supervised)
        with Started(bench.server, folder, commands, count) as service:
            give_up_at = time.monotonic() + PATIENCE
            while int(bench.server.client.zcard(docket.keys.workers)) < processes:  # pyright: ignore[reportArgumentType]
                service.look_after(give_up_at)
                time.sleep(0.02)
            time.sleep(0.5)
            before, cpu = bench.server.usage(), service.cpu()
            docket.add_many([docket.call(task)(number) for number in range(count)])
            while marks.ran(folder, count) < count:
                service.look_after(give_up_at)
                time.sleep(0.05)
            time.sleep(0.2)
            used, spent = bench.server.usage().since(before), service.cpu() - cpu
            marked = marks.read(folder, count)
            if fault := marked.fault():
                raise Broken(fault)
    taken = max(marked.starts) - min(marked.starts)
    return Run((count - processes) / taken, spent / count, used.cpu / count)


def crunching(bench: Bench, count: int, repetitions: int) -> dict[str, float]:
    """One process and two in turn, so that what the machine does meanwhile hits both."""
    figures: dict[str, float] = {}
    for supervised in (False, True):
        for task, kind in KINDS.items():
            found: dict[int, list[Run]] = {1: [], 2: []}
            for _ in range(repetitions):
                for processes, runs in found.items():
                    runs.append(_once(bench, task, processes, supervised, count * processes))
            figures |= _figures(f"{kind}, {'docket-supervise' if supervised else 'plain workers'}", found)
    return figures


def _figures(name: str, found: dict[int, list[Run]]) -> dict[str, float]:
    rate = {each: statistics.median(run.rate for run in runs) for each, runs in found.items()}
    workers = {each: statistics.median(run.workers for run in runs) for each, runs in found.items()}
    redis = statistics.median(run.redis for run in found[2])
    return {
        f"{name}: 1 process, /s": rate[1],
        f"{name}: 2 processes, /s": rate[2],
        f"{name}: ratio by the clock": rate[2] / rate[1],
        f"{name}: CPU per task that is not the task's own, of the workers, ms": (workers[2] - CPU) * 1e3,
        f"{name}: and of Redis, ms": redis * 1e3,
        f"{name}: ratio that the CPU allows on two cores": 2 * workers[1] / (workers[2] + redis),
    }
