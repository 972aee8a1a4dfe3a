"""`docket clear`."""

from __future__ import annotations

from docket.cli import options
from docket.cli.printing import printable, report
from docket.cli.session import EXIT_CODES as EPILOG
from docket.cli.session import opened

__all__ = ["EPILOG", "clear"]


def clear(
    docket: options.Docket = options.NAME, url: options.URL = options.WHERE, as_json: options.AsJSON = False
) -> None:
    """Cancel everything that waits, due or scheduled.

    What runs goes on, and dead letters stay.
    """
    with opened(docket, url) as it:
        cleared = it.clear()
    report(
        f"Cleared {cleared} tasks from docket '{printable(docket)}'",
        {"docket": docket, "cleared": cleared},
        as_json,
    )
