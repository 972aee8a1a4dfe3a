"""The report of a drill, as a table for people."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.table import Table

from chaos.experiment import Evidence
from chaos.figures import BACK_WITHIN, RUNNING_AGAIN_WITHIN

SHOWN = 20
"""Problems of a kind; the JSON has them all."""


def show(console: Console, evidence: Evidence) -> None:
    verdict, figures = evidence.verdict, evidence.figures
    table = Table(title=f"{evidence.drill.name}, seed {evidence.seed}, {evidence.processes} processes")
    table.add_column("what")
    table.add_column("found", justify="right")
    table.add_column("expected", justify="right")
    incidents = Counter(each.what for each in evidence.incidents if each.what != "settled in")
    for what, times in sorted(incidents.items()):
        table.add_row(f"incident: {what}", str(times), "")
    table.add_section()
    table.add_row("executions scheduled", str(verdict.scheduled), "")
    table.add_row("runs seen by witnesses", str(verdict.runs), "")
    for cause, times in sorted(verdict.explained.items()):
        table.add_row(f"run again because of: {cause}", str(times), "")
    table.add_section()
    for kind, problems in verdict.problems.items():
        table.add_row(kind, str(len(problems)), "0", style="red" if problems else "")
    table.add_section()
    table.add_row("kills that interrupted something", str(figures.kills), "")
    limit = f"< {RUNNING_AGAIN_WITHIN:g} s" if evidence.drill.measured else ""
    table.add_row("kill → running again, p50", _seconds(figures.again_p50), "")
    table.add_row("kill → running again, p99", _seconds(figures.again_p99), limit)
    table.add_row("kill → each interrupted run, p99", _seconds(figures.all_again_p99), "")
    within = f"≤ {BACK_WITHIN:g} s" if evidence.drill.measured else ""
    table.add_row("kill → throughput back, p99", _seconds(figures.back_p99), within)
    table.add_row("usual throughput", f"{figures.throughput:g}/s", "")
    console.print(table)
    for kind, problems in verdict.problems.items():
        for problem in problems[:SHOWN]:
            console.print(f"[red]{kind}:[/] {problem}", highlight=False, soft_wrap=True)
        if len(problems) > SHOWN:
            console.print(f"[red]{kind}:[/] and {len(problems) - SHOWN} more", highlight=False)
    console.print("the evidence holds" if verdict.clean else "[red]the evidence does not hold[/]")


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f} s"
