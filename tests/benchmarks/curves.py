"""Figures over the size of a backlog as lines: SVG without any library, in the colours of whoever looks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Found = Mapping[int, Mapping[str, float]]
"""Size of the backlog → figure → value."""

WIDTH, HEIGHT, MARGIN, COLUMNS = 400, 150, 30, 2
TITLE, LEGEND, AXIS, FIGURES = 20, 15, 22, 56
STYLE = """
  .paper { fill: #ffffff; } text { font: 11px system-ui, sans-serif; fill: #24292f; }
  .title { font-weight: 600; } .note, .tick { fill: #57606a; } .tick { font-size: 10px; }
  .grid { stroke: #d0d7de; stroke-width: 0.5; } .line { fill: none; stroke-width: 1.8; }
  .a { stroke: #0969da; } .b { stroke: #bc4c00; } .c { stroke: #8250df; } .d { stroke: #1a7f37; }
  .fill-a { fill: #0969da; } .fill-b { fill: #bc4c00; } .fill-c { fill: #8250df; } .fill-d { fill: #1a7f37; }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117; } text { fill: #c9d1d9; } .note, .tick { fill: #8b949e; } .grid { stroke: #30363d; }
    .a { stroke: #58a6ff; } .b { stroke: #f0883e; } .c { stroke: #bc8cff; } .d { stroke: #3fb950; }
    .fill-a { fill: #58a6ff; } .fill-b { fill: #f0883e; } .fill-c { fill: #bc8cff; } .fill-d { fill: #3fb950; }
  }
"""


def drawn(panels: Mapping[str, Mapping[str, str]], found: Found) -> str:
    """`panels`: title → what each line is called → its figure. Every panel begins at nothing: a flat line is flat."""
    height = TITLE + LEGEND + HEIGHT + AXIS + MARGIN
    parts: list[str] = []
    for number, (title, lines) in enumerate(panels.items()):
        left = MARGIN + (number % COLUMNS) * (FIGURES + WIDTH + MARGIN)
        parts += _panel(title, lines, found, left + FIGURES, MARGIN + number // COLUMNS * height)
    width = MARGIN + COLUMNS * (FIGURES + WIDTH + MARGIN)
    whole = MARGIN + math.ceil(len(panels) / COLUMNS) * height
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {whole}" width="{width}" height="{whole}"'
    paper = f'<path class="paper" d="M0 0H{width}V{whole}H0z"/>'
    label = "what docket costs beside a backlog, by its size"
    text = [f'{head} role="img" aria-label="{label}">', f"<style>{STYLE}</style>", paper, *parts, "</svg>"]
    return "\n".join(text) + "\n"


def _panel(title: str, lines: Mapping[str, str], found: Found, left: float, top: float) -> list[str]:
    sizes = sorted(found)
    base = top + TITLE + LEGEND + HEIGHT
    most = _round(max(found[size][figure] for figure in lines.values() for size in sizes))

    def x(size: int) -> float:
        first, last = math.log10(sizes[0]), math.log10(sizes[-1])
        return left + WIDTH * (math.log10(size) - first) / ((last - first) or 1)

    def y(value: float) -> float:
        return base - HEIGHT * value / most

    parts = [f'<text class="title" x="{left}" y="{top + 12}">{escape(title)}</text>']
    for share in (0.0, 0.5, 1.0):
        parts.append(
            f'<path class="grid" d="M{left} {y(most * share):.1f}H{left + WIDTH}"/><text class="tick" '
            f'x="{left - 6}" y="{y(most * share) + 3:.1f}" text-anchor="end">{_shown(most * share)}</text>'
        )
    for size in sizes:
        parts.append(
            f'<text class="tick" x="{x(size):.1f}" y="{base + 15}" text-anchor="middle">{size:,}</text>'
        )
    for number, (name, figure) in enumerate(lines.items()):
        colour = "abcd"[number]
        points = " ".join(f"{x(size):.1f},{y(found[size][figure]):.1f}" for size in sizes)
        parts.append(f'<polyline class="line {colour}" points="{points}"/>')
        parts += [
            f'<circle class="fill-{colour}" cx="{x(size):.1f}" cy="{y(found[size][figure]):.1f}" r="2.5"/>'
            for size in sizes
        ]
        at = left + number * WIDTH / max(2, len(lines))
        parts.append(
            f'<circle class="fill-{colour}" cx="{at + 4:.1f}" cy="{top + TITLE + 5}" r="3"/>'
            f'<text class="note" x="{at + 11:.1f}" y="{top + TITLE + 9}">{escape(name)}</text>'
        )
    return parts


def _round(value: float) -> float:
    """The next number above of which half can be read: 1, 2, 4, 5 or 10 and so many noughts."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 10) if value <= step * power)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == round(value) else f"{value:.2g}"


def table(found: Found, figures: Sequence[str]) -> str:
    """The same in Markdown; every figure, whether it is drawn or not."""
    sizes = sorted(found)
    rows = [["beside a backlog of", *(f"{size:,}" for size in sizes)], ["---", *["---:"] * len(sizes)]]
    rows += [[figure, *(_cell(found[size].get(figure)) for size in sizes)] for figure in figures]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
