"""The commands that speak to a running supervisor, over its control socket."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from docket_supervisor.caller import Failed, Wanted, ask, outlast
from docket_supervisor.codes import VERDICTS, Verdict, as_help

_EPILOG = f"\b\nExit codes:\n{as_help(VERDICTS)}"

Socket = Annotated[
    str | None,
    typer.Option(
        "--control-socket",
        envvar="DOCKET_CONTROL_SOCKET",
        metavar="FILE",
        help="Socket of the supervisor that is meant.",
        show_default="the only one in $XDG_RUNTIME_DIR or the folder for temporary files",
    ),
]
Docket = Annotated[
    str | None,
    typer.Option("--docket", envvar="DOCKET_NAME", metavar="NAME", help="The supervisor of this docket."),
]
Pid = Annotated[
    int | None,
    typer.Option("--pid", envvar="DOCKET_PID", metavar="PID", help="The supervisor with this pid."),
]
Wait = Annotated[
    bool,
    typer.Option("--wait", envvar="DOCKET_WAIT", help="Return when it is done, not when it is accepted."),
]
_UNBOUNDED = 10_000
"""Columns of a pipe or a file: what is cut cannot be searched for."""

Json = Annotated[bool, typer.Option("--json", envvar="DOCKET_JSON", help="For machines.")]


def status(socket: Socket = None, docket: Docket = None, pid: Pid = None, as_json: Json = False) -> None:
    """How the service stands: its workers, what they run, what waits."""
    told = _ask(Wanted(socket, docket, pid), "status")["status"]
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    # Rich takes a tenth of a second to load, which machines need not wait for.
    from rich.console import Console

    from docket_supervisor.table import as_table

    console = Console()
    if not console.is_terminal:
        console.width = _UNBOUNDED
    console.print(as_table(told))


def top(
    socket: Socket = None,
    docket: Docket = None,
    pid: Pid = None,
    interval: Annotated[
        float,
        typer.Option(
            "--interval", envvar="DOCKET_INTERVAL", min=0.1, metavar="SECONDS", help="Between two looks."
        ),
    ] = 1.0,
) -> None:
    """The same, live in the terminal, until Ctrl-C."""
    from docket_supervisor.top import watch

    wanted = Wanted(socket, docket, pid)
    try:
        watch(lambda: ask(wanted, "status")["status"], interval)
    except Failed as failed:
        _fail(failed)


def quiet(socket: Socket = None, docket: Docket = None, pid: Pid = None, wait: Wait = False) -> None:
    """Claim nothing more; what runs goes on. With --wait: until no worker claims."""
    _ask(Wanted(socket, docket, pid), "quiet", wait=wait)


def resume(socket: Socket = None, docket: Docket = None, pid: Pid = None, wait: Wait = False) -> None:
    """Claim again. With --wait: until every worker does."""
    _ask(Wanted(socket, docket, pid), "resume", wait=wait)


def scale(
    processes: Annotated[
        str, typer.Argument(metavar="N|auto", help="Worker processes; auto: as the work needs.")
    ],
    socket: Socket = None,
    docket: Docket = None,
    pid: Pid = None,
    wait: Wait = False,
) -> None:
    """Run this many worker processes. With --wait: until they are ready, and those too many have drained."""
    to = processes if processes == "auto" else _number(processes)
    _ask(Wanted(socket, docket, pid), "scale", wait=wait, to=to)


def reload(socket: Socket = None, docket: Docket = None, pid: Pid = None, wait: Wait = False) -> None:
    """Replace the workers one by one by some with the new code. With --wait: until that is done, or was undone (1)."""
    _ask(Wanted(socket, docket, pid), "reload", wait=wait)


def stacks(socket: Socket = None, docket: Docket = None, pid: Pid = None, wait: Wait = False) -> None:
    """Write the stacks of every process to the log of the service. With --wait: until they are there."""
    _ask(Wanted(socket, docket, pid), "stacks", wait=wait)


def stop(socket: Socket = None, docket: Docket = None, pid: Pid = None, wait: Wait = False) -> None:
    """Drain and leave, as TERM does. With --wait: until the supervisor is gone."""
    told = _ask(Wanted(socket, docket, pid), "stop", wait=wait)
    if wait:
        outlast(told["pid"])


COMMANDS: tuple[Callable[..., None], ...] = (status, top, quiet, resume, scale, reload, stacks, stop)


def add_to(app: typer.Typer) -> None:
    for command in COMMANDS:
        app.command(epilog=_EPILOG)(command)


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"expected a number of processes or auto, got {text!r}") from None


def _ask(wanted: Wanted, verb: str, **more: Any) -> dict[str, Any]:
    try:
        return ask(wanted, verb, **more)
    except Failed as failed:
        _fail(failed)


def _fail(failed: Failed) -> NoReturn:
    typer.echo(f"docket-supervise: {failed}", err=True)
    raise typer.Exit(Verdict(failed.verdict))
