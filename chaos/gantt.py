"""The picture: each process's places over time, and what was done to them, as an SVG or within a page of HTML."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from chaos.incidents import ALL, AWAY, DEADLY, Incident
from chaos.witness import INTERRUPTED, RAISED, RETURNED, Run

WIDTH = 1600
LEFT = 170
ROW = 4
GAP = 6
TOP = 46

COLOURS = {RETURNED: "#5aa469", RAISED: "#e0a030", INTERRUPTED: "#8a8fa3", "": "#c0392b"}
LEGEND = (
    (COLOURS[RETURNED], "returned"),
    (COLOURS[RAISED], "raised"),
    (COLOURS[INTERRUPTED], "interrupted (drain, replacement)"),
    (COLOURS[""], "ended with its process"),
    ("#2b6cb0", "outlined: run again"),
    ("#e8d9f5", "nobody can work"),
    ("#d62728", "▼ killed or told to leave"),
)


def draw(runs: Sequence[Run], incidents: Iterable[Incident], title: str) -> str:
    """An SVG. A row per place of a process, in the order in which processes began; bars have the key as their hint."""
    known = list(incidents)
    if not runs:
        return '<svg xmlns="http://www.w3.org/2000/svg" width="300" height="40"><text y="20">nothing ran</text></svg>'
    since = min([run.began_at for run in runs] + [each.at for each in known])
    until = max(max(run.began_at, run.ended_at) for run in runs)
    return _Picture(runs, known, since, until).svg(title)


def page(svg: str, title: str) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<body style="margin:1em;font-family:sans-serif">{svg}</body></html>'
    )


class _Picture:
    def __init__(self, runs: Sequence[Run], incidents: list[Incident], since: float, until: float) -> None:
        self._runs, self._incidents = runs, incidents
        self._since, self._scale = since, (WIDTH - LEFT - 20) / max(until - since, 0.001)
        self._until = until
        self._ends = self._deaths()
        self._top: dict[int, float] = {}
        self._places: dict[int, list[float]] = {}
        self._place_of = self._arrange()

    def _x(self, at: float) -> float:
        return LEFT + (min(max(at, self._since), self._until) - self._since) * self._scale

    def _deaths(self) -> Mapping[int, float]:
        """Until when a run without an end is drawn: something ended its process, or another one was its successor."""
        ends: dict[int, float] = {}
        by_pid: defaultdict[int, list[float]] = defaultdict(list)
        for each in self._incidents:
            if each.what in DEADLY:
                by_pid[each.pid].append(each.at)
        last: dict[int, float] = {}
        for run in self._runs:
            last[run.pid] = max(last.get(run.pid, 0.0), run.began_at, run.ended_at)
        for run in self._runs:
            deadly = [at for at in by_pid[run.pid] + by_pid[ALL] if at >= run.began_at]
            ends[id(run)] = run.ended_at or min([*deadly, last[run.pid] + 0.05])
        return ends

    def _arrange(self) -> dict[int, int]:
        """Each run gets the first place of its process that is free when it begins."""
        place_of: dict[int, int] = {}
        for run in self._runs:
            places = self._places.setdefault(run.pid, [])
            free = next((number for number, end in enumerate(places) if end <= run.began_at), len(places))
            if free == len(places):
                places.append(0.0)
            places[free] = self._ends[id(run)]
            place_of[id(run)] = free
        top = float(TOP)
        for pid, places in self._places.items():
            self._top[pid] = top
            top += len(places) * ROW + GAP
        self._height = top + 40
        return place_of

    def svg(self, title: str) -> str:
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{self._height:.0f}" font-size="10" '
            'font-family="sans-serif">',
            '<rect width="100%" height="100%" fill="white"/>',
            f'<text x="8" y="16" font-size="13" font-weight="bold">{escape(title)}</text>',
            *self._legend(),
            *self._absences(),
            *self._axis(),
            *self._processes(),
            *(self._bar(run) for run in self._runs),
            *self._blows(),
            "</svg>",
        ]
        return "\n".join(parts)

    def _legend(self) -> Iterable[str]:
        x = 8
        for colour, text in LEGEND:
            yield f'<rect x="{x}" y="24" width="10" height="10" fill="{colour}"/>'
            yield f'<text x="{x + 14}" y="33">{escape(text)}</text>'
            x += 40 + 6 * len(text)

    def _absences(self) -> Iterable[str]:
        for each in self._incidents:
            if each.pid == ALL and each.what in AWAY and each.until:
                x, width = self._x(each.at), self._x(each.until) - self._x(each.at)
                yield (
                    f'<rect x="{x:.1f}" y="{TOP}" width="{width:.1f}" height="{self._height - TOP - 30:.0f}" '
                    f'fill="#e8d9f5"><title>{escape(f"{each.what} {each.note}")}</title></rect>'
                )

    def _axis(self) -> Iterable[str]:
        seconds = self._until - self._since
        step = next(step for step in (1, 5, 10, 30, 60, 300, 900, 3600, 1e9) if seconds / step <= 20)
        at = 0.0
        while at <= seconds:
            x = self._x(self._since + at)
            yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{self._height - 30:.0f}" stroke="#eee"/>'
            yield f'<text x="{x:.1f}" y="{self._height - 16:.0f}" text-anchor="middle">{at:g}s</text>'
            at += step

    def _processes(self) -> Iterable[str]:
        for pid, top in self._top.items():
            height = len(self._places[pid]) * ROW
            yield f'<text x="8" y="{top + min(height, 9):.0f}">process {pid}</text>'
            yield (
                f'<rect x="{LEFT}" y="{top:.0f}" width="{WIDTH - LEFT - 20}" height="{height}" fill="#000" '
                'fill-opacity="0.03"/>'
            )

    def _bar(self, run: Run) -> str:
        x, end = self._x(run.began_at), self._x(self._ends[id(run)])
        y = self._top[run.pid] + self._place_of[id(run)] * ROW
        again = ' stroke="#2b6cb0" stroke-width="1"' if id(run) in self._again else ""
        hint = f"{run.key} attempt {run.attempt}, {run.began_at - self._since:.3f}s, {run.ended or 'no end seen'}"
        return (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(end - x, 0.6):.1f}" height="{ROW - 1}" '
            f'fill="{COLOURS[run.ended]}"{again}><title>{escape(hint)}</title></rect>'
        )

    @property
    def _again(self) -> set[int]:
        """Runs of a call that had been run before."""
        if not hasattr(self, "_known_again"):
            seen: set[tuple[str, int]] = set()
            self._known_again: set[int] = set()
            for run in self._runs:
                if (run.key, run.version) in seen:
                    self._known_again.add(id(run))
                seen.add((run.key, run.version))
        return self._known_again

    def _blows(self) -> Iterable[str]:
        for each in self._incidents:
            x = self._x(each.at)
            hint = escape(f"{each.what} {each.note}, {each.at - self._since:.3f}s")
            if each.pid in self._top:
                y = self._top[each.pid] - 1
                yield (
                    f'<text x="{x:.1f}" y="{y + 8:.1f}" fill="#d62728" text-anchor="middle">▼'
                    f"<title>{hint}</title></text>"
                )
                if each.until:
                    end = self._x(each.until)
                    yield (
                        f'<line x1="{x:.1f}" x2="{end:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="#d62728" '
                        f'stroke-dasharray="2"><title>{hint}</title></line>'
                    )
            else:
                y = self._height - 30
                yield (
                    f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{y:.0f}" stroke="#d62728" stroke-opacity="0.35">'
                    f"<title>{hint}</title></line>"
                )
