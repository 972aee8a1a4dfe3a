"""Thousands of automatic perpetual tasks: the service starts, goes on, and is restarted with them in place."""

from __future__ import annotations

import time
from pathlib import Path

from tests.benchmarks.bench import Bench
from tests.benchmarks.contestants import PROGRAMS
from tests.benchmarks.results import percentile
from tests.benchmarks.server import Server
from tests.benchmarks.started import PATIENCE, Started

PROCESSES, CONCURRENCY = 2, 50
EVERY = "DOCKET_BENCH_EVERY"
"""As `programs/ticks.py` reads it, which is not for this process."""


class Ticking(Started):
    """docket-supervise with so many tasks, of which each is due `every` so many seconds."""

    def __init__(self, server: Server, folder: Path, tasks: int, every: float) -> None:
        options = f"--docket bench --url {server.url} --processes {PROCESSES} --concurrency {CONCURRENCY}"
        options += f" --app-dir {PROGRAMS} --tasks ticks:tasks --log-level WARNING"
        super().__init__(server, folder, [f"docket_supervisor {options}"], tasks, **{EVERY: str(every)})
        self._folder = folder

    def wait_until(self, count: int, known: int) -> None:
        """So many more runs have begun than those that were `known`."""
        give_up_at = time.monotonic() + PATIENCE
        while runs(self._folder) - known < count:
            self.look_after(give_up_at)
            time.sleep(0.02)


def lateness(folder: Path) -> dict[str, list[float]]:
    """Of all runs so far, for each process; seconds."""
    found: dict[str, list[float]] = {}
    for path in folder.glob("*.late"):
        with path.open("rb") as file:
            if len(head := file.read(8)) == 8:
                count = int(memoryview(head).cast("d")[0])
                found[path.name] = [*memoryview(file.read(8 * count)).cast("d")]
    return found


def runs(folder: Path) -> int:
    return sum(map(len, lateness(folder).values()))


def ticking(bench: Bench, tasks: int, every: float, seconds: float) -> dict[str, float]:
    """What it comes to."""
    figures: dict[str, float] = {}
    with bench.clean() as folder:
        began = time.monotonic()
        for what in ("started", "restarted"):
            known = runs(folder)
            with Ticking(bench.server, folder, tasks, every) as service:
                service.wait_until(1, known)
                figures[f"{what}: until the first runs, s"] = time.monotonic() - began
                service.wait_until(tasks, known)
                figures[f"{what}: until as many ran as there are, s"] = time.monotonic() - began
                figures[f"{what}: CPU of the service until then, s"] = service.cpu()
                if what == "started":
                    figures |= _steady(bench, service, folder, tasks / every, seconds)
                figures[f"{what}: then leaves within, s"] = service.leave()
            began = time.monotonic()
    return figures


def _steady(bench: Bench, service: Ticking, folder: Path, wanted: float, seconds: float) -> dict[str, float]:
    time.sleep(2.0)
    known, cpu, before = lateness(folder), service.cpu(), bench.server.usage()
    time.sleep(seconds)
    used, spent = bench.server.usage().since(before), service.cpu() - cpu
    late = [each for path, all in lateness(folder).items() for each in all[len(known.get(path, ())) :]]
    return {
        "runs, /s": len(late) / used.at,
        "of those that would be right": len(late) / used.at / wanted,
        "lateness p50, ms": percentile(late, 0.5) * 1e3,
        "lateness p99, ms": percentile(late, 0.99) * 1e3,
        "CPU of the service, cores": spent / used.at,
        "CPU of the service per run, µs": spent / len(late) * 1e6,
        "CPU of Redis, cores": used.cpu / used.at,
        "CPU of Redis per run, µs": used.cpu / len(late) * 1e6,
    }
