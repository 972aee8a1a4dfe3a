"""A docket for the length of one command; what goes wrong with it is one line on standard error."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import NoReturn

import typer
from redis.exceptions import RedisError

from docket.errors import BadURL, DocketError
from docket.store.connect import hide_password
from docket.sync import Docket

FAILED, USAGE, IMPORT_FAILED = 1, 2, 3


def leave(sentence: object, code: int) -> NoReturn:
    typer.echo(f"docket: {sentence}", err=True)
    raise typer.Exit(code)


@contextmanager
def opened(name: str, url: str) -> Generator[Docket]:
    """Ends the program with 2 if it was asked for something that makes no sense, with 1 if Redis could not do it."""
    try:
        docket = Docket(name=name, url=url)
    except ValueError as error:
        leave(error, USAGE)
    try:
        with docket:
            yield docket
    except BadURL as error:
        leave(error, USAGE)
    except DocketError as error:
        leave(error, FAILED)
    except RedisError as error:
        leave(f"Redis at {hide_password(url)} refused: {error}", FAILED)
