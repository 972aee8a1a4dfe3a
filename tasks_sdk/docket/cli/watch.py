"""`docket watch`: one execution, live until its end.

What it prints comes from events: Redis is not asked again and again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from docket.cli import options
from docket.cli.printing import printable
from docket.cli.session import NOT_FOUND, leave, not_found, opened
from docket.errors import ResultUnavailable
from docket.events import ExecutionEvent, ProgressEvent, StateEvent
from docket.states import ExecutionState

EPILOG = (
    "Exits with 0 if it has completed, 1 if it has failed, 3 if it was cancelled, 4 if there is no such execution; "
    "1 also if Redis could not be reached, 2 on wrong usage, 130 if interrupted."
)

INTERRUPTED = 130
_EXIT_CODES = {ExecutionState.COMPLETED: 0, ExecutionState.FAILED: 1, ExecutionState.CANCELLED: 3}

_WIDTH = 20


def watch(
    key: Annotated[str, typer.Argument(help="The key of the execution.", metavar="KEY")],
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: Annotated[bool, typer.Option("--json", help="Print each event as a line of JSON.")] = False,
) -> None:
    """Show the state and the progress of one execution until it ends."""
    code = NOT_FOUND
    with opened(docket, url) as it:
        execution = it.get_execution(key)
        if execution is None:
            not_found(f"execution '{printable(key)}'", it)
        events = execution.subscribe()
        try:
            with _as_json() if as_json else _for_people() as show:
                for event in events:
                    show(event)
                    if event["type"] == "state":
                        code = _EXIT_CODES.get(event["state"], code)
        except ResultUnavailable as error:
            leave(error, NOT_FOUND)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        finally:
            events.close()
    raise typer.Exit(code)


Show = Callable[[ExecutionEvent], None]


@contextmanager
def _as_json() -> Generator[Show]:
    yield lambda event: _print(json.dumps(event))


@contextmanager
def _for_people() -> Generator[Show]:
    picture = Picture()
    console = Console(highlight=False, markup=False, emoji=False)

    def say(event: ExecutionEvent) -> None:
        for line in picture.changed_by(event):
            _print(line)

    def redraw(event: ExecutionEvent) -> None:
        picture.changed_by(event)
        live.update(Group(*(Text(line, overflow="fold") for line in picture.lines)), refresh=True)

    if not console.is_terminal:
        yield say
    else:
        with Live(console=console, auto_refresh=False) as live:
            yield redraw


def _print(line: str) -> None:
    """At once, also into a pipe: somebody waits for it."""
    typer.echo(line)
    sys.stdout.flush()


class Picture:
    """What is shown: a line for each thing that is known, in the order of the labels."""

    labels = ("State", "Started", "Progress", "Message", "Updated", "Ended", "Error")

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}

    @property
    def lines(self) -> list[str]:
        return [f"{label}: {self._shown[label]}" for label in self.labels if label in self._shown]

    def changed_by(self, event: ExecutionEvent) -> list[str]:
        """Takes the event in; returns the lines that are other than before."""
        before = set(self.lines)
        now = dict(_of_state(event) if event["type"] == "state" else _of_progress(event))
        for label, text in now.items():
            if text:
                self._shown[label] = text
            else:
                self._shown.pop(label, None)
        return [line for line in self.lines if line not in before]


def _of_state(event: StateEvent) -> Iterable[tuple[str, str]]:
    yield "State", event["state"].upper() + (f" ({printable(event['worker'])})" if event["worker"] else "")
    yield "Started", _moment(event["started_at"])
    yield "Ended", _moment(event["completed_at"])
    yield "Error", printable(event["error"] or "")


def _of_progress(event: ProgressEvent) -> Iterable[tuple[str, str]]:
    reported = event["updated_at"] is not None
    yield "Progress", progress_line(event["current"], event["total"]) if reported else ""
    yield "Message", printable(event["message"] or "")
    yield "Updated", _moment(event["updated_at"])


def progress_line(current: int, total: int) -> str:
    """`[████████████░░░░░░░░] 60/100 (60.0%)`"""
    share = current / total if total > 0 else 0.0
    full = min(_WIDTH, max(0, int(share * _WIDTH)))
    done, open_ = ("█", "░") if _can_be_written("█░") else ("#", "-")
    return f"[{done * full}{open_ * (_WIDTH - full)}] {current}/{total} ({share:.1%})"


def _can_be_written(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _moment(text: str | None) -> str:
    """In local time, as `2025-01-15 10:30:05`."""
    return "" if text is None else f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S}"
