"""`docket dead`: what was set aside with a cause, to be looked at, tried again or forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from docket import clock
from docket.cli import options, printing
from docket.cli.completion import of_dead_keys
from docket.cli.session import (
    EXIT_CODES,
    EXIT_CODES_OF_ONE,
    NOT_FOUND,
    USAGE,
    leave,
    not_found,
    opened,
    remark_if_unused,
)
from docket.snapshot import is_dead
from docket.sync import Docket, Execution

app = typer.Typer(
    help="Look at dead letters, try them again, forget them.", no_args_is_help=True, rich_markup_mode=None
)

_COLUMNS = ("Set aside", "Function", "Key", "Crashes", "Cause")

Keys = Annotated[
    list[str] | None,
    typer.Argument(help="Keys of dead letters.", metavar="[KEY]...", autocompletion=of_dead_keys),
]
All = Annotated[bool, typer.Option("--all", help="All of them.")]


@app.command("ls", epilog=EXIT_CODES)
def ls(
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    """List the dead letters, the oldest first."""
    with opened(docket, url) as it:
        letters = it.dead_letters()
        if not letters:
            remark_if_unused(it)
    now = clock.now()
    printing.listing(
        f"Dead letters of docket '{docket}'",
        letters,
        as_json,
        columns=_COLUMNS,
        row=lambda letter: _row(letter, now),
        data=_as_data,
    )


def table(title: str, letters: Iterable[Execution], now: datetime) -> Table:
    """One row for each dead letter, with its cause."""
    return printing.table(title, _COLUMNS, [_row(letter, now) for letter in letters])


def _row(letter: Execution, now: datetime) -> tuple[str, ...]:
    return (
        printing.clock_time(letter.completed_at, now),
        letter.function_name,
        letter.key,
        str(letter.crashes),
        letter.error or "",
    )


@app.command("show", epilog=EXIT_CODES_OF_ONE)
def show(
    key: Annotated[
        str,
        typer.Argument(help="Key of the dead letter.", metavar="KEY", autocompletion=of_dead_keys),
    ],
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    """Show one dead letter. Its arguments stay unread: they may be what is wrong with it."""
    with opened(docket, url) as it:
        if (
            not it.store.perform(is_dead(it.core.keys_of(key), key))
            or (found := it.get_execution(key)) is None
        ):
            not_found(f"dead letter '{printing.printable(key)}'", it)
    printing.details(_as_data(found), as_json)


@app.command("retry", epilog=EXIT_CODES_OF_ONE)
def retry(
    keys: Keys = None,
    everything: All = False,
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    """Put dead letters back in line, with a clean record."""
    with opened(docket, url) as it:
        chosen = _chosen(it, keys, everything)
        retried = sum(it.retry_dead(key) for key in chosen)
    printing.report(
        f"Put {retried} of {len(chosen)} dead letters back in line in docket '{printing.printable(docket)}'",
        {"docket": docket, "asked": len(chosen), "retried": retried},
        as_json,
    )
    if retried < len(chosen):
        raise typer.Exit(NOT_FOUND)


@app.command("purge", epilog=EXIT_CODES_OF_ONE)
def purge(
    keys: Keys = None,
    everything: All = False,
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    """Forget dead letters."""
    with opened(docket, url) as it:
        chosen = _chosen(it, keys, everything)
        purged = it.purge_dead(chosen)
    printing.report(
        f"Purged {purged} of {len(chosen)} dead letters from docket '{printing.printable(docket)}'",
        {"docket": docket, "asked": len(chosen), "purged": purged},
        as_json,
    )
    if purged < len(chosen):
        raise typer.Exit(NOT_FOUND)


def _chosen(it: Docket, keys: list[str] | None, everything: bool) -> list[str]:
    if bool(keys) == everything:
        leave("expected keys of dead letters, or --all", USAGE)
    return it.store.perform(it.core.dead_keys()) if everything else list(keys or ())


def _as_data(letter: Execution) -> dict[str, Any]:
    return {
        "key": letter.key,
        "function": letter.function_name,
        "cause": letter.error,
        "set_aside": printing.iso(letter.completed_at),
        "started_at": printing.iso(letter.started_at),
        "worker": letter.worker,
        "attempt": letter.attempt,
        "crashes": letter.crashes,
    }
