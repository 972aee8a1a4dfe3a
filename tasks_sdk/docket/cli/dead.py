"""`docket dead`: what was set aside with a cause, to be looked at, tried again or forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from docket import clock
from docket.cli import options, printing
from docket.cli.cancel import NOT_FOUND
from docket.cli.session import USAGE, leave, opened
from docket.sync import Docket, Execution

app = typer.Typer(help="Look at dead letters, try them again, forget them.", no_args_is_help=True)

_COLUMNS = ("Set aside", "Function", "Key", "Crashes", "Cause")

Keys = Annotated[list[str] | None, typer.Argument(help="Keys of dead letters.", metavar="[KEY]...")]
All = Annotated[bool, typer.Option("--all", help="All of them.")]


@app.command("ls")
def ls(
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    """List the dead letters, the oldest first."""
    with opened(docket, url) as it:
        letters = it.dead_letters()
    if as_json:
        printing.print_json([_as_data(letter) for letter in letters])
        return
    title = f"Dead letters of docket '{docket}'"
    if not letters:
        printing.show(f"{printing.printable(title)}: none")
        return
    printing.show(table(title, letters, clock.now()))


def table(title: str, letters: Iterable[Execution], now: datetime) -> Table:
    """One row for each dead letter, with its cause."""
    rows = [
        (
            printing.clock_time(letter.completed_at, now),
            letter.function_name,
            letter.key,
            str(letter.crashes),
            letter.error or "",
        )
        for letter in letters
    ]
    return printing.table(title, _COLUMNS, rows)


@app.command("show")
def show(
    key: Annotated[str, typer.Argument(help="Key of the dead letter.", metavar="KEY")],
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    """Show one dead letter. Its arguments stay unread: they may be what is wrong with it."""
    with opened(docket, url) as it:
        found = [letter for letter in it.dead_letters() if letter.key == key]
    if not found:
        leave(
            f"there is no dead letter '{printing.printable(key)}' in docket '{printing.printable(docket)}'",
            NOT_FOUND,
        )
    data = _as_data(found[0])
    if as_json:
        printing.print_json(data)
        return
    printing.show(
        *(f"{name}: {printing.printable(str(value))}" for name, value in data.items() if value is not None)
    )


@app.command("retry")
def retry(
    keys: Keys = None,
    everything: All = False,
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
) -> None:
    """Put dead letters back in line, with a clean record."""
    with opened(docket, url) as it:
        chosen = _chosen(it, keys, everything)
        retried = sum(it.retry_dead(key) for key in chosen)
    typer.echo(
        f"Put {retried} of {len(chosen)} dead letters back in line in docket '{printing.printable(docket)}'"
    )
    if retried < len(chosen):
        raise typer.Exit(NOT_FOUND)


@app.command("purge")
def purge(
    keys: Keys = None,
    everything: All = False,
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
) -> None:
    """Forget dead letters."""
    with opened(docket, url) as it:
        chosen = _chosen(it, keys, everything)
        purged = it.purge_dead(chosen)
    typer.echo(f"Purged {purged} of {len(chosen)} dead letters from docket '{printing.printable(docket)}'")
    if purged < len(chosen):
        raise typer.Exit(NOT_FOUND)


def _chosen(it: Docket, keys: list[str] | None, everything: bool) -> list[str]:
    if bool(keys) == everything:
        leave("expected keys of dead letters, or --all", USAGE)
    return [letter.key for letter in it.dead_letters()] if everything else list(keys or ())


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
