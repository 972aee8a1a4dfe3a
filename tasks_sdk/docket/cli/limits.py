"""`docket limits`: who holds the permits of which limit, who waits, and how many there shall be."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from docket import clock
from docket.cli import options, printing
from docket.cli.session import EXIT_CODES, USAGE, leave, opened, remark_if_unused
from docket.limits import LimitInfo

_COLUMNS = ("Limit", "Kind", "Used", "Most", "Waiting", "First waits since", "Held by")
_SHOWN = 5

Name = Annotated[
    str,
    typer.Argument(
        help="A limit as `docket limits` lists it (customer_id:1001), or what several have in common (customer_id).",
        metavar="LIMIT",
    ),
]
Most = Annotated[int, typer.Argument(help="How many run at once; 0 pauses it.", metavar="N", min=0)]

app = typer.Typer(
    help="Who holds the permits of which limit, who waits, and how many there shall be.",
    invoke_without_command=True,
    epilog=EXIT_CODES,
)


@app.callback(invoke_without_command=True)
def listed(
    context: typer.Context,
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    if context.invoked_subcommand is None:
        ls(docket, url, as_json)


@app.command(epilog=EXIT_CODES)
def ls(
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    """List the limits that somebody holds a permit of or waits for."""
    with opened(docket, url) as it:
        found = it.limits()
        if not found:
            remark_if_unused(it)
    now = clock.now()
    printing.listing(
        f"Limits of docket '{docket}'",
        found,
        as_json,
        columns=_COLUMNS,
        row=lambda limit: (
            limit.name,
            limit.kind,
            str(limit.used),
            f"{limit.most} (set)" if limit.is_set else str(limit.most),
            str(limit.waiting),
            printing.clock_time(limit.waiting_since, now),
            _holders(limit, now),
        ),
        data=_as_data,
    )


@app.command("set", epilog=EXIT_CODES)
def set_(
    limit: Name,
    most: Most,
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    """Let so many run at once, whatever the code says, until it is reset. What runs already goes on."""
    try:
        with opened(docket, url) as it:
            before = it.set_limit(limit, most)
    except ValueError as error:
        leave(error, USAGE)
    was = "" if before is None else f" (was {before})"
    printing.report(
        f"Limit {printing.printable(limit)} admits {most}{was}",
        {"limit": limit, "most": most, "before": before},
        as_json,
    )


@app.command(epilog=EXIT_CODES)
def reset(
    limit: Name,
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    """Let it admit again what the code says."""
    try:
        with opened(docket, url) as it:
            before = it.reset_limit(limit)
    except ValueError as error:
        leave(error, USAGE)
    name = printing.printable(limit)
    printing.report(
        f"Nothing was set for limit {name}"
        if before is None
        else f"Limit {name} admits what the code says (was {before})",
        {"limit": limit, "before": before},
        as_json,
    )


def _holders(limit: LimitInfo, now: Any) -> str:
    shown = [
        f"{holder.key} since {printing.clock_time(holder.since, now)}" if holder.since else holder.key
        for holder in limit.holders[:_SHOWN]
    ]
    more = len(limit.holders) - _SHOWN
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _as_data(limit: LimitInfo) -> dict[str, Any]:
    return {
        "limit": limit.name,
        "kind": limit.kind,
        "most": limit.most,
        "set": limit.is_set,
        "used": limit.used,
        "waiting": limit.waiting,
        "waiting_since": printing.iso(limit.waiting_since),
        "holders": [
            {
                "key": holder.key,
                "task": holder.task,
                "worker": holder.worker,
                "since": printing.iso(holder.since),
            }
            for holder in limit.holders
        ],
    }
