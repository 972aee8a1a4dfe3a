"""`docket tasks …`: adds one of the small tasks that every worker knows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

import typer

from docket import clock, tasks
from docket.cli import options
from docket.cli.printing import printable
from docket.cli.session import USAGE, leave, opened

app = typer.Typer(
    help="Add a task to try a docket out with.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Message = Annotated[str, typer.Argument(help="What it says.")]
Delay = Annotated[timedelta, options.duration("--delay", "How long from now it is to be run.")]

_NOW = options.shown(timedelta(0))


@app.command(epilog=options.DURATIONS)
def trace(
    message: Message = "Howdy!",
    delay: Delay = _NOW,
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
) -> None:
    """Add a task that logs the message on its worker."""
    _add(tasks.trace, message, delay, docket, url)


@app.command(epilog=options.DURATIONS)
def fail(
    message: Message = "Howdy!",
    delay: Delay = _NOW,
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
) -> None:
    """Add a task that fails with the message, on both of its attempts."""
    _add(tasks.fail, message, delay, docket, url)


@app.command(epilog=options.DURATIONS)
def sleep(
    seconds: Annotated[float, typer.Argument(help="How many seconds.", min=0)] = 1,
    delay: Delay = _NOW,
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
) -> None:
    """Add a task that waits, and holds a slot meanwhile."""
    _add(tasks.sleep, seconds, delay, docket, url)


def _add(task: Callable[..., Any], argument: str | float, delay: timedelta, name: str, url: str) -> None:
    try:
        when = clock.now() + delay
    except OverflowError:
        leave("expected --delay to end before the year 10000", USAGE)
    with opened(name, url) as docket:
        execution = docket.add(task, when=when if delay else None)(argument)
    typer.echo(f"Added {execution.function_name} task '{execution.key}' to the docket '{printable(name)}'")
