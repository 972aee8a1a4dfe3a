"""What Redis refuses, in words that say what to do: something foreign at a key of ours, or a user that may not."""

from __future__ import annotations

from collections.abc import Iterable

from redis.exceptions import NoPermissionError, ResponseError

from docket.errors import DocketError
from docket.store.keys import kind_of, singles, with_prefix
from docket.store.requests import Commands
from docket.store.scripts import Call

_MOST_KEYS = 200
_LONGEST_KEY = 300


class ForeignKey(DocketError, ResponseError):
    """Something that is none of docket's lies at a key of a docket; the message names the key, and nothing was done."""


class Forbidden(DocketError, NoPermissionError):
    """The user that Redis knows us by may not do this."""


def is_about_types(error: BaseException) -> bool:
    return (
        isinstance(error, ResponseError) and "WRONGTYPE" in str(error) and not isinstance(error, ForeignKey)
    )


def is_about_permissions(error: BaseException) -> bool:
    """Redis says it by its own word or, from within a script, in a sentence that differs from release to release."""
    if isinstance(error, Forbidden) or not isinstance(error, ResponseError):
        return False
    return isinstance(error, NoPermissionError) or any(
        words in str(error) for words in ("NOPERM", "The user executing the script can't")
    )


def forbidden(error: BaseException) -> Forbidden:
    return Forbidden(
        f"Redis does not allow this to its user: {error} (docs/security.md lists what docket needs)"
    )


def types_of(names: Iterable[str]) -> Commands:
    return Commands([("TYPE", name) for name in names])


def names_in(request: Call | Commands) -> list[str]:
    """The keys that this request has to do with, as far as it says."""
    if isinstance(request, Commands):
        return list(dict.fromkeys(_text(command[1]) for command in request.commands if len(command) > 1))
    keys = with_prefix(_text(request.arguments[0]))
    named = [_text(each) for each in request.arguments[1:_MOST_KEYS] if not isinstance(each, int)]
    of_executions = [
        name
        for key in dict.fromkeys(named)
        if 0 < len(key) <= _LONGEST_KEY
        for name in (keys.runs(key), keys.results(key), keys.progress(key))
    ]
    return [*singles(keys), *of_executions]


def foreign(names: Iterable[str], types: Iterable[bytes]) -> ForeignKey | None:
    """The first key that holds something else than docket keeps there."""
    for name, found in zip(names, types, strict=True):
        kind = kind_of(name)
        if kind is not None and found.decode() not in (kind, "none"):
            return ForeignKey(
                f"the key {name!r} in Redis holds a {found.decode()}, where docket keeps a {kind}: "
                "whoever wrote it must take it away"
            )
    return None


def _text(part: str | bytes | int | float) -> str:
    return part.decode(errors="surrogateescape") if isinstance(part, bytes) else str(part)
