"""What Redis refuses, in words that say what to do: something foreign at a key of ours, or a user that may not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from redis.exceptions import NoPermissionError, ResponseError

from docket.errors import DocketError
from docket.store.keys import Keys, kind_of, name_in, of_text, singles, with_prefix
from docket.store.requests import Commands
from docket.store.scripts import Call

_MOST_KEYS = 200
_LONGEST_KEY = 300
_PLACE = re.compile(r"@user_script: ?\d+: ?-?")
_TOLD = re.compile(r"the key '.+' in Redis holds a \w+, where docket keeps a .+", re.DOTALL)


class ForeignKey(DocketError, ResponseError):
    """Something that is none of docket's lies at a key of a docket; the message names the key, and nothing was done."""


class Forbidden(DocketError, NoPermissionError):
    """The user that Redis knows us by may not do this."""


def is_about_types(error: BaseException) -> bool:
    return (
        isinstance(error, ResponseError) and "WRONGTYPE" in str(error) and not isinstance(error, ForeignKey)
    )


def told(error: BaseException) -> ForeignKey | None:
    """The script itself has said which key it is."""
    found = _TOLD.search(str(error))
    return None if found is None else ForeignKey(found[0])


def is_about_permissions(error: BaseException) -> bool:
    """Redis says it by its own word or, from within a script, in a sentence that differs from release to release."""
    if isinstance(error, Forbidden) or not isinstance(error, ResponseError):
        return False
    return isinstance(error, NoPermissionError) or any(
        words in str(error) for words in ("NOPERM", "The user executing the script can't")
    )


def in_words(refusal: str) -> str:
    """What Redis says of a script, without the place in the script; of its memory, what it means for the caller."""
    if "OOM " in refusal:
        return "Redis has reached its maxmemory and takes nothing more: give it more, or let what has ended expire"
    return _PLACE.sub("", refusal).strip()


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
    texts = dict.fromkeys(each for word in named for each in (word, *_limits_in(word)))
    return [*singles(keys), *names_of(keys, texts)]


def names_of(keys: Keys, texts: Iterable[str]) -> list[str]:
    """Whatever a docket may keep about something of this name: an execution, a worker, a task, a limit."""
    return [name for text in texts if 0 < len(text) <= _LONGEST_KEY for name in of_text(keys, text)]


def _limits_in(word: str) -> Iterator[str]:
    """The names of limits, if these are limits as docket.admission writes them."""
    if not word.startswith("[["):
        return
    try:
        rows: Any = json.loads(word)
        yield from (str(row[1]) for row in rows)
    except (ValueError, LookupError, TypeError):
        return


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
    return name_in(part) if isinstance(part, bytes) else str(part)
