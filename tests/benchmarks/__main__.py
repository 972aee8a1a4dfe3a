"""`python -m tests.benchmarks [--quick] [--alone] [--hiredis] [measure …]`: everything, or what is named.

Exit code 0 unless a measurement is worth nothing (tasks lost or doubled, something did not come up): then 1. A target
that is missed is shown and is no failure: figures move from machine to machine.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from tests.benchmarks import limited, punctuality, report, supervised, throughput
from tests.benchmarks.bench import QUICK, Amounts, Bench
from tests.benchmarks.contestants import CACHE, FLOOR, OURS, Broken, pydocket, version_of
from tests.benchmarks.results import Row
from tests.benchmarks.server import Server

MEASURES = {
    "enqueue": throughput.enqueue,
    "drain": throughput.drain_async,
    "sync": throughput.drain_sync,
    "supervised": supervised.drain_supervised,
    "limits": limited.limits,
    "rest": throughput.rest,
    "compute": throughput.compute,
    "latency": punctuality.latency,
    "due": punctuality.due,
    "idle": supervised.idle,
    "recovery": supervised.recovery,
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m tests.benchmarks", description="Everything, or what is named."
    )
    parser.add_argument("measures", nargs="*", help=", ".join(MEASURES))
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    parser.add_argument("--alone", action="store_true", help="without pydocket")
    parser.add_argument(
        "--hiredis", action="store_true", help="give pydocket the fast parser that docket always has"
    )
    parser.add_argument("--output", type=Path, default=CACHE / "bench-results.json")
    options = parser.parse_args()
    if unknown := set(options.measures) - set(MEASURES):
        parser.error(f"there is no measure {', '.join(sorted(unknown))}")
    return options


def _measure(console: Console, bench: Bench, names: list[str]) -> tuple[list[Row], dict[str, str]]:
    rows: list[Row] = []
    broken: dict[str, str] = {}
    for name in names:
        began = time.monotonic()
        try:
            rows += MEASURES[name](bench)
            console.print(f"{name}: {time.monotonic() - began:.0f} s", highlight=False)
        except Broken as error:
            broken[name] = str(error)
            console.print(f"[red]{name}: broken:[/] {error}", highlight=False)
    return rows, broken


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind
    options, console = _options(), Console()
    if not console.is_terminal:
        console = Console(width=120)
    names = options.measures or list(MEASURES)
    rival = None if options.alone else pydocket(*["hiredis"] * options.hiredis)
    folder = Path(tempfile.mkdtemp(prefix="docket-bench-"))
    try:
        server = Server(folder)
        try:
            bench = Bench(server, folder, QUICK if options.quick else Amounts(), OURS, FLOOR, rival)
            versions = {"redis-server": server.version, "redis-py": version_of(OURS, "redis")}
            if rival is not None:
                versions["pydocket"] = version_of(rival, "pydocket") + " with hiredis" * options.hiredis
            rows, broken = _measure(console, bench, names)
        finally:
            server.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    conditions = report.conditions(**versions, repetitions=str(bench.amounts.repetitions))
    report.show(console, rows, conditions)
    report.save(options.output, rows, conditions, broken)
    console.print(f"all repetitions are in {options.output}", style="dim", highlight=False)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
