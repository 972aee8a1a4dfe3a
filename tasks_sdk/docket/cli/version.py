"""`docket version`."""

from __future__ import annotations

import typer

from docket import __version__


def version() -> None:
    """Print the version, and nothing else."""
    typer.echo(__version__)
