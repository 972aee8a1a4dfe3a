"""`docket why`: what keeps an execution from running."""

from __future__ import annotations

from typing import Annotated

import typer

from docket.cli import options, printing
from docket.cli.session import EXIT_CODES_OF_ONE, NOT_FOUND, not_found, opened

EPILOG = EXIT_CODES_OF_ONE

Key = Annotated[str, typer.Argument(help="Key of the execution.", metavar="KEY")]


def why(
    key: Key,
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    """Say why an execution is not running: struck, parked, waiting for a limit, unknown to all workers, …"""
    with opened(docket, url) as it:
        found = it.why(key)
        if found.state is None and not as_json:
            not_found(f"execution '{printing.printable(key)}'", it)
    if as_json:
        printing.print_json({"key": key, "state": found.state, "reasons": list(found.reasons)})
    else:
        first, *rest = found.reasons
        printing.show(f"{printing.printable(key)} is {found.state}: {printing.printable(first)}")
        printing.show(*(f"  {printing.printable(reason)}" for reason in rest))
    if found.state is None:
        raise typer.Exit(NOT_FOUND)
