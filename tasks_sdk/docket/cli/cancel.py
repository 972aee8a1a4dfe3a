"""`docket cancel`."""

from __future__ import annotations

from typing import Annotated

import typer

from docket.cli import options
from docket.cli.printing import printable, report
from docket.cli.session import EXIT_CODES_OF_ONE as EPILOG
from docket.cli.session import not_found, opened

__all__ = ["EPILOG", "Key", "cancel"]

Key = Annotated[str, typer.Argument(help="Key of the execution.", metavar="KEY")]


def cancel(
    key: Key,
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    """Cancel one execution, waiting or running.

    What has ended already is left alone.
    """
    with opened(docket, url) as it:
        before = it.store.perform(it.core.cancel(key))
        if before is None:
            not_found(f"execution '{printable(key)}'", it)
    cancelled = before in ("scheduled", "queued", "running")
    report(
        f"Cancelled '{printable(key)}', which was {before}"
        if cancelled
        else f"'{printable(key)}' had ended already: {before}",
        {"key": key, "cancelled": cancelled, "was": before},
        as_json,
    )
