"""`docket clear`."""

from __future__ import annotations

import typer

from docket.cli import options
from docket.cli.printing import printable
from docket.cli.session import opened


def clear(docket: options.Docket = options.NAME, url: options.URL = options.WHERE) -> None:
    """Cancel everything that waits, due or scheduled.

    What runs goes on, and dead letters stay.
    """
    with opened(docket, url) as it:
        cleared = it.clear()
    typer.echo(f"Cleared {cleared} tasks from docket '{printable(docket)}'")
