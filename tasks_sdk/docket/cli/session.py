"""A docket for the length of one command; what goes wrong with it is one line on standard error."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NoReturn

import typer
from redis.exceptions import RedisError

from docket.cli.neighbours import hint, suspicion
from docket.cli.printing import printable
from docket.errors import BadURL, DocketError
from docket.store.connect import hide_password
from docket.store.requests import read
from docket.sync import Docket
from docket_supervisor.loading import LoadFailed, load

FAILED, USAGE, IMPORT_FAILED, NOT_FOUND = 1, 2, 3, 4

ITS_OWN_PROGRAM = "docket"
"""The context's object when the command line is what this process is there for, and not called by a test."""

EXIT_CODES = "Exit codes: 0 done · 1 Redis could not be reached, or refused · 2 usage"
EXIT_CODES_OF_ONE = f"{EXIT_CODES} · 4 not found"
"""For commands that are about one thing, which may not be there."""


def leave(sentence: object, code: int) -> NoReturn:
    typer.echo(f"docket: {sentence}", err=True)
    raise typer.Exit(code)


def not_found(what: str, docket: Docket) -> NoReturn:
    """Ends the program with 4. `what`: "execution 'k'"."""
    more = hint(docket)
    sentence = f"there is no {what} in docket '{printable(docket.name)}'"
    leave(f"{sentence}: {more}" if more else sentence, NOT_FOUND)


def remark_if_unused(docket: Docket) -> None:
    """For lists that came out empty: whoever mistyped the name is told so, beside the list. It is no error."""
    if more := suspicion(docket):
        typer.echo(f"docket: {more}", err=True)


@contextmanager
def opened(name: str, url: str) -> Generator[Docket]:
    """Split as it is in Redis, which nobody need say.

    Ends the program with 2 if it was asked for something that makes no sense, with 1 if Redis could not do it."""
    try:
        docket = Docket(name=name, url=url)
    except ValueError as error:
        leave(error, USAGE)
    try:
        with ExitStack() as stack:
            stack.enter_context(docket)
            parts = docket.store.perform(read("GET", docket.keys.partitions))
            if parts is not None:
                docket = stack.enter_context(Docket(name=name, url=url, partitions=int(parts)))
            yield docket
    except BadURL as error:
        leave(error, USAGE)
    except DocketError as error:
        leave(error, FAILED)
    except RedisError as error:
        leave(f"Redis at {hide_password(url)} refused: {error}", FAILED)


def registering(docket: Docket, references: Sequence[str]) -> None:
    """These `module:collection` are known to the docket. The program ends with 3 if they cannot be imported."""
    try:
        load(references, ".")
        for reference in references:
            docket.register_collection(reference)
    except (LoadFailed, TypeError, ValueError) as error:
        leave(error, IMPORT_FAILED)
