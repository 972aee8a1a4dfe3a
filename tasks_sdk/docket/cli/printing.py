"""What commands print on standard output: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from docket.durations import describe

_UNBOUNDED = 100_000
"""Columns of a pipe or a file: a key that is cut cannot be searched for."""

_SECOND = timedelta(seconds=1)

T = TypeVar("T")


def listing(
    title: str,
    items: Sequence[T],
    as_json: bool,
    *,
    columns: Sequence[str],
    row: Callable[[T], Sequence[str]],
    data: Callable[[T], object],
) -> None:
    """What every list looks like: an array of JSON, or one line that says there is none, or a table."""
    if as_json:
        print_json([data(item) for item in items])
    elif not items:
        show(f"{printable(title)}: none")
    else:
        show(table(title, columns, [row(item) for item in items]))


def details(data: Mapping[str, object], as_json: bool, lines: Mapping[str, str] | None = None) -> None:
    """What everything about one thing looks like: an object of JSON, or a line for each name that has a value.

    `lines`: what people read instead of the data, where that needs other words.
    """
    if as_json:
        print_json(data)
        return
    texts = lines or {name: "" if value is None else str(value) for name, value in data.items()}
    wide = max(len(name) for name in texts) + 1
    show(*(f"{name + ':':{wide}} {printable(text)}" for name, text in texts.items() if text))


def report(sentence: str, data: Mapping[str, object], as_json: bool) -> None:
    """What a verb says of what it did."""
    if as_json:
        print_json(data)
    else:
        typer.echo(sentence)


def show(*lines: Table | str) -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _UNBOUNDED
    for line in lines:
        console.print(line)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Cells are text as it is: brackets in a key are no markup, and a long key is folded, never cut."""
    made = Table(title=Text(printable(title)), title_justify="left")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(cell)) for cell in row))
    return made


def print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))


def printable(text: str) -> str:
    """Keys and names are anybody's text: what could move the cursor or recolour the terminal is shown escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def clock_time(moment: datetime | None, now: datetime) -> str:
    """`16:10:05 (in 5m)` in local time, with the date if it is another day."""
    if moment is None:
        return ""
    try:
        local, today = moment.astimezone(), now.astimezone().date()
    except OverflowError:  # the last day that a datetime can hold has no local time everywhere
        local, today = moment, now.date()
    shown = local.strftime("%H:%M:%S" if local.date() == today else "%Y-%m-%d %H:%M:%S")
    return f"{shown} ({_distance(moment - now)})"


def _distance(away: timedelta) -> str:
    rounded = round(away / _SECOND) * _SECOND
    if not rounded:
        return "now"
    return f"in {describe(rounded)}" if rounded > timedelta(0) else f"{describe(-rounded)} ago"
