"""`docket cancel`."""

from __future__ import annotations

from typing import Annotated

import typer

from docket import scheduling
from docket.cli import options
from docket.cli.printing import printable
from docket.cli.session import leave, opened

NOT_FOUND = 4

Key = Annotated[str, typer.Argument(help="Key of the execution.", metavar="KEY")]


def cancel(key: Key, docket: options.Docket = options.NAME, url: options.URL = options.WHERE) -> None:
    """Cancel one execution, waiting or running.

    What has ended already is left alone. Exit code 4 if there is no such execution.
    """
    with opened(docket, url) as it:
        before = it.store.perform(scheduling.cancel(it.keys, key))
    if before is None:
        leave(f"there is no execution '{printable(key)}' in docket '{printable(docket)}'", NOT_FOUND)
    if before in ("scheduled", "queued", "running"):
        typer.echo(f"Cancelled '{printable(key)}', which was {before}")
    else:
        typer.echo(f"'{printable(key)}' had ended already: {before}")
