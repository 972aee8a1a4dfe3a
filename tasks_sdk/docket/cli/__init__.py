"""The command line `docket`: one module for each command or group of commands."""

from __future__ import annotations

from docket.cli.program import app
from docket.cli.session import ITS_OWN_PROGRAM


def main() -> None:
    """The entry point."""
    app(prog_name="docket", obj=ITS_OWN_PROGRAM)
