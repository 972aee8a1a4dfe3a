"""The figures as tables for people and as a file for programs, which can be read back."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.benchmarks.results import NOT_PEERS, Row, Target

MARKS = {True: "[green]✓[/]", False: "[red]✗[/]", None: ""}


def shown(value: float | None) -> str:
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.1f} ×" if ratio < 100 else f"{ratio:,.0f} ×"


def cell(row: Row, contestant: str) -> str:
    return "broken" if contestant in row.faults else shown(row.figure(contestant))


def best_cell(row: Row) -> str:
    return f"{shown(row.figure(row.best))} {row.best}" if row.best else "–"


def contestants_of(rows: Iterable[Row]) -> list[str]:
    """Everybody who has a figure, or would have one; ours first, the floor last, the others as they were measured."""
    names = dict.fromkeys(name for row in rows for name in (*row.values, *row.faults, *row.absent))
    peers = [name for name in names if name not in NOT_PEERS]
    return [
        "ours",
        *sorted(peers, key=lambda name: name != "pydocket"),
        *(["floor"] if "floor" in names else []),
    ]


def _label(row: Row) -> str:
    return f"{row.name} [dim]{row.unit}[/]" if row.unit else row.name


def _comparison(rows: Sequence[Row]) -> Table:
    title = "docket beside its best peer, pydocket and a bare consumer (medians)"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
    table.add_column("measure", overflow="fold", max_width=36)
    for column in ("ours", "best peer", "pydocket", "floor", "vs\npydocket", "vs\nbest"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("goal", overflow="fold", max_width=24)
    table.add_column("", no_wrap=True)
    for row in rows:
        table.add_row(
            _label(row),
            cell(row, "ours"),
            best_cell(row),
            cell(row, "pydocket"),
            cell(row, "floor"),
            times(row.ratio),
            times(row.best_ratio),
            row.target.words if row.target else "",
            MARKS[row.met],
        )
    return table


def _everybody(rows: Sequence[Row]) -> Table:
    names = contestants_of(rows)
    table = Table(title="everybody (medians)", box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
    table.add_column("measure", overflow="fold", min_width=24)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(_label(row), *(cell(row, name) for name in names))
    return table


def remarks(rows: Iterable[Row]) -> list[str]:
    """Why a cell is empty or broken, each reason once, with those whom it concerns."""
    said: list[str] = []
    why: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        if row.remark:
            said.append(f"{row.name.strip()}: {row.remark}")
        for kind, reasons in (("–", row.absent), ("broken", row.faults)):
            for name, reason in reasons.items():
                why.setdefault((name, kind, reason.strip()), []).append(row.name.strip())
    for (name, kind, reason), where in why.items():
        here = (
            f" ({where[0]}{f' and {len(where) - 1} more' if len(where) > 1 else ''})"
            if kind == "broken"
            else ""
        )
        reason = reason.removeprefix(f"{name}: ")
        said.append(f"{name}, {kind}{here}: {reason}")
    return list(dict.fromkeys(said))


def show(console: Console, rows: list[Row], conditions: Mapping[str, str]) -> None:
    console.print(_comparison(rows))
    if set(contestants_of(rows)) - {*NOT_PEERS, "pydocket"}:
        console.print(_everybody(rows))
    for line in remarks(rows):
        console.print(escape(line), style="dim", highlight=False)
    console.print(
        "; ".join(f"{name} {value}" for name, value in conditions.items()), style="dim", highlight=False
    )


def conditions(**more: str) -> dict[str, str]:
    return {"cores": str(os.cpu_count()), "Python": platform.python_version(), **more}


def load_average() -> str:
    return "/".join(f"{each:.1f}" for each in os.getloadavg())


def save(path: Path, rows: list[Row], conditions: Mapping[str, str], settings: Mapping[str, Any]) -> None:
    """`settings` are by contestant: what was installed, and what makes it fast."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = [
        {
            "measure": row.name.strip(),
            "key": row.key,
            "name": row.name,
            "unit": row.unit,
            "more_is_better": row.more_is_better,
            "medians": {each: row.figure(each) for each in row.values},
            "repetitions": row.values,
            "ratio": row.ratio,
            "best": row.best,
            "best_ratio": row.best_ratio,
            "goal": row.target.words if row.target else None,
            "target": asdict(row.target) if row.target else None,
            "met": row.met,
            "broken": row.faults,
            "absent": row.absent,
            "remark": row.remark,
        }
        for row in rows
    ]
    content = {"conditions": dict(conditions), "settings": dict(settings), "results": found}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def load(path: Path) -> tuple[list[Row], dict[str, str], dict[str, Any]]:
    """What `save` has written: rows, conditions, settings."""
    content = json.loads(path.read_text())
    rows = [
        Row(
            each["name"],
            each["unit"],
            each["more_is_better"],
            Target(**each["target"]) if each["target"] else None,
            each["repetitions"],
            each["remark"],
            each["key"],
            each["broken"],
            each["absent"],
        )
        for each in content["results"]
    ]
    return rows, content["conditions"], content["settings"]
