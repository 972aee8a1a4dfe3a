"""The options that several commands share, and how an option becomes a value or a sentence."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

import typer

from docket.durations import describe, parse
from docket.settings import DEFAULT_NAME, DEFAULT_URL

DURATIONS = "Durations: 30s, 250ms, 1.5s, 5m, 1h30m, 05:30 (minutes and seconds), or plain seconds."

Docket = Annotated[
    str, typer.Option("--docket", "-d", envvar="DOCKET_NAME", help="Name of the docket.", metavar="NAME")
]
URL = Annotated[
    str,
    typer.Option(
        "--url",
        "-u",
        envvar="DOCKET_URL",
        help="Where its Redis is: redis://, rediss://, unix://, redis+sentinel://, redis+cluster://, memory://name or "
        "embedded:///folder.",
        metavar="URL",
    ),
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

NAME, WHERE = DEFAULT_NAME, DEFAULT_URL
"""What the options `Docket` and `URL` are when nobody says anything."""


def option(
    flag: str,
    parser: Callable[[str], object],
    help: str,
    *,
    metavar: str,
    variables: list[str] | str | None = None,
    show_default: str | bool = True,
) -> Any:
    """An option of any type: a ValueError of its parser is the sentence of the usage error."""

    def read(given: str) -> object:
        try:
            return parser(given)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint=f"'{flag}'") from None

    return typer.Option(
        flag, envvar=variables, help=help, metavar=metavar, parser=read, show_default=show_default
    )


def duration(flag: str, help: str, variables: list[str] | str | None = None) -> Any:
    return option(flag, parse, help, metavar="DURATION", variables=variables)


def number(
    flag: str, help: str, variables: list[str] | str | None = None, show_default: str | bool = True
) -> Any:
    return option(flag, _whole, help, metavar="N", variables=variables, show_default=show_default)


def shown(default: object) -> Any:
    """A default as help shows it and as the option's parser reads it back."""
    if isinstance(default, timedelta):
        return describe(default)
    return None if default is None else str(default)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"expected a whole number, got {text!r}") from None
