"""`python -m tests.benchmarks [--quick] [--alone] [--peers NAMES] [measure …]`: everything, or what is named.

Exit code 0 unless a measurement of ours is worth nothing (tasks lost or doubled, something did not come up): then 1. A
goal that is missed is shown and is no failure, figures move from machine to machine; neither is a peer that is broken.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.benchmarks import (
    floors,
    limited,
    page,
    partitioned,
    peers,
    plot,
    punctuality,
    report,
    scale,
    supervised,
    throughput,
)
from tests.benchmarks.bench import QUICK, Amounts, Bench
from tests.benchmarks.contestants import CACHE, FLOOR, OURS, Broken, Contestant, pydocket, version_of
from tests.benchmarks.goals import set_goals
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
    "server": floors.server,
    "scale": scale.scale,
    "partitions": partitioned.partitioned,
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m tests.benchmarks", description="Everything, or what is named."
    )
    parser.add_argument("measures", nargs="*", help=", ".join(MEASURES))
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    parser.add_argument("--alone", action="store_true", help="without pydocket and the other peers")
    parser.add_argument(
        "--peers", default=",".join(peers.NAMES), help="which beside pydocket (default: %(default)s)"
    )
    parser.add_argument(
        "--hiredis", action="store_true", help="give pydocket the fast parser that docket always has"
    )
    parser.add_argument(
        "--output", type=Path, default=CACHE / "bench-results.json", help="default: %(default)s"
    )
    parser.add_argument("--repetitions", type=int, metavar="N", help="so many of everything that is repeated")
    parser.add_argument("--again", action="store_true", help="measure nothing: take what lies in --output")
    parser.add_argument("--plot", type=Path, metavar="PATH", help="draw the comparison into this file")
    parser.add_argument(
        "--document", type=Path, metavar="PATH", help="write the tables between this file's markers"
    )
    options = parser.parse_args()
    if options.repetitions is not None and options.repetitions < 1:
        parser.error("--repetitions must be 1 or more")
    if unknown := set(options.measures) - set(MEASURES):
        parser.error(f"there is no measure {', '.join(sorted(unknown))}")
    options.peers = [] if options.alone else list(filter(None, options.peers.split(",")))
    if unknown := set(options.peers) - set(peers.NAMES):
        parser.error(f"there is no peer {', '.join(sorted(unknown))}: {', '.join(peers.NAMES)}")
    return options


def _prepare(
    console: Console, options: argparse.Namespace
) -> tuple[Contestant | None, list[Contestant], dict[str, str]]:
    """pydocket, the other peers, and why some cannot be measured."""
    makers: dict[str, Callable[[], Contestant]] = {name: partial(peers.peer, name) for name in options.peers}
    if not options.alone:
        makers = {"pydocket": partial(pydocket, *["hiredis"] * options.hiredis), **makers}
    ready: dict[str, Contestant] = {}
    missing: dict[str, str] = {}
    for name, make in makers.items():
        try:
            ready[name] = make()
        except Broken as error:
            missing[name] = str(error)
            console.print(f"[red]{name}:[/] {error}", highlight=False)
    return ready.pop("pydocket", None), list(ready.values()), missing


def _measure(console: Console, bench: Bench, names: list[str]) -> list[Row]:
    rows: list[Row] = []
    for name in names:
        began = time.monotonic()
        found = MEASURES[name](bench)
        rows += found
        broken = {who: why for row in found for who, why in row.faults.items()}
        told = "".join(f"; [red]{who} is broken[/]" for who in broken)
        console.print(f"{name}: {time.monotonic() - began:.0f} s{told}", highlight=False)
    set_goals(rows)
    return rows


def _run(console: Console, options: argparse.Namespace) -> tuple[list[Row], dict[str, str], dict[str, Any]]:
    rival, ready, missing = _prepare(console, options)
    load = report.load_average()
    folder = Path(tempfile.mkdtemp(prefix="docket-bench-"))
    try:
        server = Server(folder)
        try:
            amounts = QUICK if options.quick else Amounts()
            if (n := options.repetitions) is not None:
                amounts = replace(amounts, repetitions=n, repetitions_of_peers=n)
            bench = Bench(server, folder, amounts, OURS, FLOOR, rival, ready, missing)
            versions = {"redis-server": server.version, "redis-py": version_of(OURS, "redis")}
            rows = _measure(console, bench, options.measures or list(MEASURES))
        finally:
            server.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    repetitions = f"{amounts.repetitions}, of peers {amounts.repetitions_of_peers}"
    kind = "quick" if options.quick else "full"
    more = {"run": kind, "repetitions": repetitions, "load before": load}
    conditions = report.conditions(**versions, **more)
    settings = {each.name: {"packages": each.packages, "settings": each.settings} for each in bench.all}
    report.save(options.output, rows, conditions, settings)
    return rows, conditions, settings


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind
    options, console = _options(), Console()
    if not console.is_terminal:
        console = Console(width=120)
    rows, conditions, settings = report.load(options.output) if options.again else _run(console, options)
    report.show(console, rows, conditions)
    if options.plot is not None:
        options.plot.write_text(plot.drawn(rows))
    if options.document is not None:
        page.document(options.document, rows, conditions, settings)
    console.print(f"all repetitions are in {options.output}", style="dim", highlight=False)
    return 1 if any("ours" in row.faults for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
