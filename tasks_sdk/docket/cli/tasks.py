"""`docket tasks …`: adds one of the small tasks that every worker knows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

import typer

from docket import clock, tasks
from docket.cli import options
from docket.cli.printing import iso, printable, report
from docket.cli.session import EXIT_CODES, FAILED, USAGE, leave, opened

app = typer.Typer(
    help="Add a task to try a docket out with.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_EPILOG = f"""\b
{options.DURATIONS}

\b
{EXIT_CODES}"""

Message = Annotated[str, typer.Argument(help="What it says.")]
Delay = Annotated[timedelta, options.duration("--delay", "How long from now it is to be run.")]

_NOW = options.shown(timedelta(0))


@app.command(epilog=_EPILOG)
def trace(
    message: Message = "Howdy!",
    delay: Delay = _NOW,
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    """Add a task that logs the message on its worker."""
    _add(tasks.trace, message, delay, docket, url, as_json)


@app.command(epilog=_EPILOG)
def fail(
    message: Message = "Howdy!",
    delay: Delay = _NOW,
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    """Add a task that fails with the message, on both of its attempts."""
    _add(tasks.fail, message, delay, docket, url, as_json)


@app.command(epilog=_EPILOG)
def sleep(
    seconds: Annotated[float, typer.Argument(help="How many seconds.", min=0)] = 1,
    delay: Delay = _NOW,
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    """Add a task that waits, and holds a slot meanwhile."""
    _add(tasks.sleep, seconds, delay, docket, url, as_json)


def _add(
    task: Callable[..., Any], argument: str | float, delay: timedelta, name: str, url: str, as_json: bool
) -> None:
    try:
        when = clock.now() + delay
    except OverflowError:
        leave("expected --delay to end before the year 10000", USAGE)
    with opened(name, url) as docket:
        execution = docket.add(task, when=when if delay else None)(argument)
    report(
        f"Added {execution.function_name} task '{execution.key}' to the docket '{printable(name)}'"
        if execution.error is None
        else f"Not added: {printable(execution.error)}",
        {
            "key": execution.key,
            "function": execution.function_name,
            "docket": name,
            "when": iso(execution.when),
            "disposition": str(execution.disposition),
            "error": execution.error,
        },
        as_json,
    )
    if execution.error is not None:  # struck
        raise typer.Exit(FAILED)
