"""The comparison as a picture: one panel for each measure, one bar for each contestant, as SVG without any library.

The colours follow whoever looks, light or dark, also where the file is shown as an image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from tests.benchmarks.report import contestants_of, shown
from tests.benchmarks.results import Row

PANELS = {
    "drain.async.1": "no-op async tasks, 1 process",
    "drain.async.2": "no-op async tasks, 2 processes",
    "drain.sync.1": "no-op sync tasks, 1 process",
    "drain.sync.2": "no-op sync tasks, 2 processes",
    "cpu.async.1": "CPU of the worker per no-op async task",
    "ledger.redis": "CPU of Redis per no-op async task",
    "add.one": "adding, one at a time",
    "add.bulk": "adding, in bulk",
    "compute": "tasks of 10 ms CPU, 2 processes",
    "rest": "2,000 × sleep 50 ms, 100 at a time: ideal ÷ taken",
    "latency.p50": "idle system, add → start, median",
    "latency.p99": "idle system, add → start, 99th percentile",
    "due.once.p50": "many due at one moment: lag, median",
    "due.spread.p50": "due one after the other: lag, median",
    "memory.extra": "memory (PSS) of one more process",
    "idle.2.commands": "2 idle processes: Redis commands",
    "add.bytes": "Redis memory per queued task",
    "limits.nothing": "no-op async tasks under a concurrency limit",
}
COLUMNS, WIDTH, NAMES, FIGURES = 2, 430, 66, 62
BAR, GAP, TITLE, MARGIN = 12, 4, 42, 18
LOGARITHMIC_FROM = 30.0
"""How many times the smallest bar the largest must be, for the scale to be logarithmic."""
STYLE = """
  .paper { fill: #ffffff; }
  text { font-size: 11px; font-family: system-ui, "DejaVu Sans", sans-serif; fill: #3d444d; }
  .title { font-weight: 600; font-size: 12px; fill: #1f2328; }
  .note { font-size: 10px; fill: #6e7781; }
  .figure { font-variant-numeric: tabular-nums; }
  .ours { fill: #0969da; } .ours-text { font-weight: 600; fill: #0969da; }
  .pydocket { fill: #bc4c00; } .peer { fill: #8c959f; } .floor { fill: none; stroke: #8c959f; }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117; }
    text { fill: #c9d1d9; } .title { fill: #f0f6fc; } .note { fill: #8b949e; }
    .ours { fill: #58a6ff; } .ours-text { fill: #58a6ff; }
    .pydocket { fill: #f0883e; } .peer { fill: #6e7681; } .floor { stroke: #8b949e; }
  }
"""


def drawn(rows: Sequence[Row]) -> str:
    """The SVG, with those of the panels for which there are figures."""
    by_key = {row.key: row for row in rows}
    panels = [(title, by_key[key]) for key, title in PANELS.items() if key in by_key and by_key[key].values]
    parts: list[str] = []
    top = float(MARGIN)
    for first in range(0, len(panels), COLUMNS):
        beside = panels[first : first + COLUMNS]
        parts += [
            line
            for column, (title, row) in enumerate(beside)
            for line in _panel(title, row, MARGIN + column * (WIDTH + MARGIN), top)
        ]
        top += max(_height(row) for _, row in beside)
    width = MARGIN + COLUMNS * (WIDTH + MARGIN)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top:.0f}" width="{width}" height="{top:.0f}"'
    paper = f'<path class="paper" d="M0 0H{width}V{top:.0f}H0z"/>'
    label = "docket beside its peers, measured in one run"
    lines = [f'{head} role="img" aria-label="{label}">', f"<style>{STYLE}</style>", paper, *parts, "</svg>"]
    return "\n".join(lines) + "\n"


def _height(row: Row) -> int:
    return TITLE + len(contestants_of([row])) * (BAR + GAP) + MARGIN


def _panel(title: str, row: Row, left: float, top: float) -> list[str]:
    figures = {name: row.figure(name) for name in contestants_of([row])}
    known = [value for value in figures.values() if value is not None and value > 0]
    logarithmic = bool(known) and max(known) / min(known) > LOGARITHMIC_FROM
    better = "more is better" if row.more_is_better else "less is better"
    note = ", ".join(filter(None, (row.unit.strip(), better, "logarithmic" if logarithmic else "")))
    lines = [
        f'<text class="title" x="{left}" y="{top + 12}">{escape(title)}</text>',
        f'<text class="note" x="{left}" y="{top + 27}">{escape(note)}</text>',
    ]

    def order(name: str) -> tuple[bool, float]:
        value = figures[name]
        if value is None:
            return True, 0.0
        return False, -value if row.more_is_better else value

    for position, name in enumerate(sorted(figures, key=order)):
        y = top + TITLE - 6 + position * (BAR + GAP)
        lines += _bar(row, name, figures[name], known, logarithmic, left, y)
    return lines


def _bar(
    row: Row, name: str, value: float | None, known: list[float], logarithmic: bool, left: float, y: float
) -> list[str]:
    kind = name if name in ("ours", "pydocket", "floor") else "peer"
    emphasis = "ours-text" if name == "ours" else ""
    text = "broken" if name in row.faults else shown(value)
    length = 0.0 if value is None else _part(value, known, logarithmic) * (WIDTH - NAMES - FIGURES)
    middle, start = y + BAR - 2, left + NAMES
    lines = [f'<text class="{emphasis}" x="{start - 6}" y="{middle}" text-anchor="end">{escape(name)}</text>']
    if length:
        lines.append(
            f'<rect class="{kind}" x="{start}" y="{y}" width="{length:.1f}" height="{BAR}" rx="1.5"/>'
        )
    x = start + length + 5
    lines.append(f'<text class="figure {emphasis}" x="{x:.1f}" y="{middle}">{escape(text)}</text>')
    return lines


def _part(value: float, known: list[float], logarithmic: bool) -> float:
    """Of the longest bar: from nothing, or from the power of ten below the smallest if that is logarithmic."""
    if value <= 0 or not known:
        return 0.0
    if not logarithmic:
        return value / max(known)
    origin = math.floor(math.log10(min(known)) - 0.05)
    return (math.log10(value) - origin) / (math.log10(max(known)) - origin)
