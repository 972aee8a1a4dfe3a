"""The status as a table for people."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_MOST_SHOWN = 3
"""Executions in the row of one slot; the oldest are the ones somebody asks about."""
_STATES = {"working": "green", "quiet": "yellow", "draining": "yellow", "starting": "cyan", "given-up": "red"}


def as_table(status: dict[str, Any]) -> RenderableType:
    return Group(headline(status), slots(status), foot(status))


def headline(status: dict[str, Any]) -> Text:
    supervisor, template, steward = status["supervisor"], status["template"], status["steward"]
    text = Text(f"docket {status['docket']}", style="bold")
    text.append(f"  supervisor {supervisor['pid']} ", style="not bold")
    text.append(supervisor["phase"], style=f"not bold {_style(supervisor['phase'])}")
    text.append(
        f" for {duration(supervisor['uptime_s'])}, generation {supervisor['generation']}", style="not bold"
    )
    text.append(
        f"  steward {_or_none(steward['pid'])}  template {_or_none(template['pid'])}", style="not bold dim"
    )
    return text


def slots(status: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
    for name in ("slot", "pid"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for name in ("gen", "busy", "lag", "memory", "restarts"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("running", overflow="fold")  # what does not fit must not be what the others say
    for slot in status["slots"]:
        table.add_row(*_row(slot))
    return table


def _row(slot: dict[str, Any]) -> tuple[str | Text, ...]:
    in_threads = sum(each["where"] == "thread" for each in slot["running"])
    lag = slot["loop_lag_ms"]
    return (
        str(slot["slot"]),
        _or_none(slot["pid"]),
        Text(slot["state"], style=_style(slot["state"])),
        str(slot["generation"]),
        f"{len(slot['running']) - in_threads}+{in_threads}/{slot['concurrency']}",
        "–" if lag is None else Text(f"{lag:.0f} ms", style="red" if lag > 1000 else ""),
        size(slot["private_bytes"]),
        _restarts(slot),
        _running(slot["running"]),
    )


def _restarts(slot: dict[str, Any]) -> str:
    death = slot["last_death"]
    return f"{slot['restarts']} ({death['cause']})" if death else str(slot["restarts"])


def _running(running: list[dict[str, Any]]) -> str:
    oldest = sorted(running, key=lambda each: -each["age_s"])
    shown = [f"{each['key']} ({each['task']}) {duration(each['age_s'])}" for each in oldest[:_MOST_SHOWN]]
    more = len(running) - len(shown)
    return ", ".join([*shown, *([f"{more} more"] if more else [])])


def foot(status: dict[str, Any]) -> Text:
    queue, totals = status["queue"], status["totals"]
    latency = queue["latency_s"]
    waits = "–" if latency is None else duration(latency)
    return Text(
        f"queue: {_or_none(queue['due'])} due (oldest {waits}), {_or_none(queue['scheduled'])} scheduled, "
        f"{_or_none(queue['waiting'])} waiting, {_or_none(queue['dead'])} dead letters\n"
        f"so far: {totals['started']} started, {totals['completed']} completed, {totals['failed']} failed, "
        f"{totals['redelivered']} redelivered"
    )


def duration(seconds: float) -> str:
    """Two units at most: `340ms`, `12.5s`, `3m05s`, `2h07m`, `4d06h`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    for large, small, names in ((86400, 3600, "dh"), (3600, 60, "hm"), (60, 1, "ms")):
        if whole >= large:
            return f"{whole // large}{names[0]}{whole % large // small:02d}{names[1]}"
    return f"{whole}s"


def size(count: int | None) -> str:
    if count is None:
        return "–"
    return f"{count / 1024**2:.1f} MiB"


def _style(state: str) -> str:
    return _STATES.get(state, "green" if state == "running" else "")


def _or_none(value: object) -> str:
    return "–" if value is None else str(value)
