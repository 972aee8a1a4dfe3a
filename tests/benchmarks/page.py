"""The results on the page: between two markers of a Markdown file, so that no figure there is typed by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.report import best_cell, cell, contestants_of, remarks, shown, times
from tests.benchmarks.results import Row

BEGIN, END = "<!-- results: written by `make bench-page` -->", "<!-- end of the results -->"
BUSY = 0.7
"""The load from which on a machine counts as busy with something else."""
MET = {True: "✓", False: "✗", None: ""}


def document(
    path: Path, rows: Sequence[Row], conditions: Mapping[str, str], settings: Mapping[str, Any]
) -> None:
    """What is between the markers is replaced; ValueError if they are not there, in this order and once."""
    text = path.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise ValueError(f"{path} must hold {BEGIN} and then {END}, each once")
    path.write_text(f"{before}{BEGIN}\n\n{rendered(rows, conditions, settings)}\n{END}{after}")


def rendered(rows: Sequence[Row], conditions: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    parts = [
        ", ".join(f"{name} {value}" for name, value in conditions.items()) + ". Medians.",
        _warning(conditions),
        "### Ours beside the best peer",
        _table(
            ["measure", "ours", "best peer", "pydocket", "floor", "vs pydocket", "vs best peer", "goal", ""],
            ([_label(row), *_compared(row)] for row in rows),
        ),
        _verdict(rows),
        "### Everybody",
        _table(
            ["measure", *contestants_of(rows)],
            ([_label(row), *(cell(row, name) for name in contestants_of(rows))] for row in rows),
        ),
        "\n".join(f"- {_escaped(line)}" for line in remarks(rows)),
        "### Who, and with which settings",
        _table(
            ["", "installed", "settings"],
            ([name, ", ".join(each["packages"]) or "–", each["settings"]] for name, each in settings.items()),
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _warning(conditions: Mapping[str, str]) -> str:
    """If others had work for the machine when the run began, or it was a quick one."""
    before = float(conditions.get("load before", "0").split("/")[0])
    why = [f"others were at work on the machine (load {before:g} before the run)"] * (before > BUSY)
    why += ["it was a quick run, with few tasks and one repetition"] * (conditions.get("run") == "quick")
    return f"**Preliminary**: {', and '.join(why)}. See the ratios, if anything." if why else ""


def _label(row: Row) -> str:
    name = f"… {row.name.strip()}" if row.name.startswith(" ") else row.name
    return f"{name}, {row.unit}" if row.unit else name


def _compared(row: Row) -> list[str]:
    goal = row.target.words if row.target else ""
    figures = [cell(row, "ours"), best_cell(row), cell(row, "pydocket"), cell(row, "floor")]
    return [*figures, times(row.ratio), times(row.best_ratio), goal, MET[row.met]]


def _verdict(rows: Sequence[Row]) -> str:
    """The goals that are missed and the measures in which a peer is ahead, by name."""
    missed: list[str] = []
    behind: list[str] = []
    whole, held = "", 0
    for row in rows:
        name = f"{whole}: {row.name.strip()}" if row.name.startswith(" ") else row.name
        whole = whole if row.name.startswith(" ") else row.name
        held += row.met is not None
        missed += [name] * (row.met is False)
        if row.best_ratio is not None and row.best_ratio < 1:
            unit = f" {row.unit}" if row.unit else ""
            behind.append(
                f"{name}: {row.best} {shown(row.figure(row.best or ''))}{unit}, ours {cell(row, 'ours')}"
            )
    said = [f"{held - len(missed)} of {held} goals are met."]
    if missed:
        said.append("Missed: " + "; ".join(missed) + ".")
    if behind:
        said += ["", "Where a peer is ahead of us:", "", *(f"- {line}" for line in behind)]
    return "\n".join(said)


def _table(head: list[str], lines: Iterable[list[str]]) -> str:
    cells = [head, ["---" if number == 0 else "---:" for number in range(len(head))], *lines]
    if head[1] == "installed":
        cells[1] = ["---"] * len(head)
    return "\n".join("| " + " | ".join(map(_escaped, line)) + " |" for line in cells)


def _escaped(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
