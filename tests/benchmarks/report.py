"""The figures as a table for people and as a file for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.results import Row

MARKS = {True: "[green]✓[/]", False: "[red]✗[/]", None: ""}


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def show(console: Console, rows: list[Row], conditions: Mapping[str, str]) -> None:
    table = Table(title="docket beside pydocket and a bare consumer (medians)")
    table.add_column("measure", overflow="fold")
    for title in ("ours", "pydocket", "floor", "ratio", "target"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("")
    for row in rows:
        figures = (_shown(row.figure(each)) for each in ("ours", "pydocket", "floor"))
        ratio = "–" if row.ratio is None else f"{row.ratio:.1f} ×"
        name = f"{row.name} [dim]{row.unit}[/]"
        table.add_row(name, *figures, ratio, row.target.text if row.target else "", MARKS[row.met])
    console.print(table)
    for row in rows:
        if row.remark:
            console.print(f"{row.name}: {row.remark}", style="dim", highlight=False)
    console.print(
        "; ".join(f"{name} {value}" for name, value in conditions.items()), style="dim", highlight=False
    )


def conditions(**more: str) -> dict[str, str]:
    load = "/".join(f"{each:.1f}" for each in os.getloadavg())
    return {"cores": str(os.cpu_count()), "load": load, "Python": platform.python_version(), **more}


def save(path: Path, rows: list[Row], conditions: Mapping[str, str], broken: Mapping[str, str]) -> None:
    path.parent.mkdir(exist_ok=True)
    found = [
        {
            "measure": row.name.strip(),
            "unit": row.unit,
            "more_is_better": row.more_is_better,
            "medians": {each: row.figure(each) for each in row.values},
            "repetitions": row.values,
            "ratio": row.ratio,
            "target": row.target.text if row.target else None,
            "met": row.met,
        }
        for row in rows
    ]
    content = {"conditions": dict(conditions), "results": found, "broken": dict(broken)}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
