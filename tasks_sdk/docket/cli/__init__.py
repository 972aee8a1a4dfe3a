"""The command line `docket`: one module for each command or group of commands."""

from __future__ import annotations

from docket.cli.program import app


def main() -> None:
    """The entry point."""
    app(prog_name="docket")
