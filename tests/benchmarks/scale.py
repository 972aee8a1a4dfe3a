"""Does anything slow down with what waits, with thousands of perpetual tasks, or without a second core?

`python -m tests.benchmarks.scale [--quick]`: the curve up to a million queued and a million parked executions takes a
quarter of an hour and 1.5 GB; `--quick` goes up to a hundred thousand, and is for seeing that it works.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks import backlog, cores, curves, perpetual, report
from tests.benchmarks.bench import QUICK, Amounts, Bench
from tests.benchmarks.contestants import CACHE, FLOOR, OURS, Broken, Contestant
from tests.benchmarks.results import Row, Target
from tests.benchmarks.server import Server

SIZES, QUICK_SIZES = (1_000, 10_000, 100_000, 1_000_000), (10_000, 100_000)
BYTES_EACH = 1_200
"""Of memory for one execution of a backlog, Redis's and that of whoever takes a snapshot of it all."""

PANELS = {
    "added and drained, per second": {
        "drained": "drained, /s",
        "added in bulk": "add, queued, in bulk, /s",
        "parked in bulk": "add, parked, in bulk, /s",
    },
    "CPU of Redis per execution, µs": {
        "added in bulk": "add, queued, in bulk: CPU of Redis, µs",
        "parked in bulk": "add, parked, in bulk: CPU of Redis, µs",
        "drained": "drained: CPU of Redis per task, µs",
    },
    "one at a time, per second": {
        "add": "add, queued, one at a time, /s",
        "get_execution": "get_execution, queued, /s",
        "replace": "replace, queued, /s",
        "cancel": "cancel, queued, /s",
    },
    "due at one moment beside so many that are parked: lag, ms": {
        "median": "due at one moment: lag p50, ms",
        "99th percentile": "due at one moment: lag p99, ms",
    },
    "bytes of Redis per execution": {
        "queued": "bytes per queued execution",
        "parked": "bytes per parked execution",
    },
    "a worker beside the backlog, ms": {
        "until its first task": "a worker comes: until its first task, ms",
        "until it has left": "a worker leaves, ms",
    },
    "clear(), per second": {"queued": "clear, queued, /s", "parked": "clear, parked, /s"},
    "docket snapshot, s": {"as it is": "docket snapshot, s"},
}

BEGIN, END = "<!-- scale: written by `make bench-scale` -->", "<!-- end of scale -->"


KEPT = {
    "scale.drain": "drained: CPU of Redis per task, µs",
    "scale.bulk": "add, queued, in bulk: CPU of Redis, µs",
    "scale.parked": "add, parked, in bulk: CPU of Redis, µs",
}


def scale(bench: Bench) -> list[Row]:
    """For the comparison: whether Redis has more to do for each task beside a backlog ten times as long. In CPU, which
    what else goes on at the machine disturbs less than rates."""
    least, most = QUICK_SIZES if bench.amounts.tasks > QUICK.tasks else (1_000, 10_000)
    rows = [
        Row(
            f"{figure.partition(':')[0]}: CPU of Redis beside {least:,} ÷ beside {most:,}",
            "",
            more_is_better=True,
            target=Target(least=0.8),
            key=key,
        )
        for key, figure in KEPT.items()
    ]

    def once(contestant: Contestant) -> None:
        few, many = (backlog.Beside(bench, size, backlog.QUICK).measure() for size in (least, most))
        for row, figure in zip(rows, KEPT.values(), strict=True):
            row.add(contestant.name, few[figure] / many[figure])

    bench.repeat([bench.ours], rows, once)
    return rows


def _backlogs(bench: Bench, quick: bool) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    for size in QUICK_SIZES if quick else SIZES:
        needed, free = size * BYTES_EACH, psutil.virtual_memory().available
        if needed > free / 2:
            print(f"{size:,}: left out, {needed / 2**30:.1f} GiB are needed and {free / 2**30:.1f} are free")
            continue
        began = time.monotonic()
        found[size] = backlog.Beside(bench, size, backlog.QUICK if quick else backlog.Load()).measure()
        print(f"{size:,}: {time.monotonic() - began:.0f} s", flush=True)
    return found


def _perpetuals(bench: Bench, quick: bool) -> dict[str, float]:
    tasks, seconds = (1_000, 4.0) if quick else (10_000, 15.0)
    found: dict[str, float] = {}
    for every in (5.0, 1.0):
        figures = perpetual.ticking(bench, tasks, every, seconds)
        found |= {f"{tasks:,} every {every:g} s, {name}": value for name, value in figures.items()}
    return found


PARTS: dict[str, Callable[[Bench, bool], dict[str, float]]] = {
    "perpetual": _perpetuals,
    "cores": lambda bench, quick: cores.crunching(bench, 50 if quick else 400, 1 if quick else 3),
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.scale")
    parser.add_argument("parts", nargs="*", help=f"backlog, {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    parser.add_argument("--output", type=Path, default=CACHE / "scale-results.json")
    parser.add_argument("--again", action="store_true", help="measure nothing: take what lies in --output")
    parser.add_argument("--plot", type=Path, metavar="PATH", help="draw the curves into this file")
    parser.add_argument("--document", type=Path, metavar="PATH", help="write the tables between its markers")
    options = parser.parse_args()
    if unknown := set(options.parts) - {"backlog", *PARTS}:
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    options.parts = options.parts or ["backlog", *PARTS]
    return options


def _run(options: argparse.Namespace) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="docket-bench-"))
    results: dict[str, Any] = {}
    try:
        server = Server(folder)
        try:
            bench = Bench(server, folder, QUICK if options.quick else Amounts(), OURS, FLOOR, None)
            if "backlog" in options.parts:
                found = _backlogs(bench, options.quick)
                results["backlog"] = {str(size): figures for size, figures in found.items()}
            for part, measure in PARTS.items():
                if part in options.parts:
                    began = time.monotonic()
                    results[part] = measure(bench, options.quick)
                    print(f"{part}: {time.monotonic() - began:.0f} s", flush=True)
            results["conditions"] = report.conditions(**{"redis-server": server.version})
        finally:
            server.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n")
    return results


def _page(results: dict[str, Any]) -> str:
    conditions = ", ".join(f"{name} {value}" for name, value in results["conditions"].items())
    parts = [f"{conditions}."]
    if found := _found(results):
        figures = list(found[max(found)])
        parts.append(curves.table(found, figures))
    for part in PARTS:
        if part in results:
            rows = [f"| {name} | {value:,.2f} |" for name, value in results[part].items()]
            parts.append("\n".join([f"| {part} | |", "| --- | ---: |", *rows]))
    return "\n\n".join(parts) + "\n"


def _found(results: dict[str, Any]) -> dict[int, dict[str, float]]:
    return {int(size): figures for size, figures in results.get("backlog", {}).items()}


def document(path: Path, text: str) -> None:
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{path} must hold {BEGIN} and then {END}")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind
    options = _options()
    try:
        results = json.loads(options.output.read_text()) if options.again else _run(options)
    except Broken as error:
        print(f"broken: {error}", file=sys.stderr)
        return 1
    page = _page(results)
    print(page)
    if options.plot is not None and _found(results):
        options.plot.write_text(curves.drawn(PANELS, _found(results)))
    if options.document is not None:
        document(options.document, page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
