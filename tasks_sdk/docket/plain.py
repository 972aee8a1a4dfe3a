"""Values as JSON, for those who want no pickle at all: only what comes out of it as it went in."""

from __future__ import annotations

import builtins
import json
from typing import Any, cast

_DEEPEST = 200
"""Lists and objects within each other; far fewer than the parser, or Redis's own, can take."""


def dump(value: Any) -> bytes:
    """TypeError says what JSON cannot carry, ValueError what it cannot carry exactly. A tuple comes back as a list."""
    _refuse_what_would_change(value, 0)
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


def load(stored: bytes) -> Any:
    """ValueError or RecursionError if it is no JSON."""
    return json.loads(stored)


def _refuse_what_would_change(value: Any, depth: int) -> None:
    if value is None or isinstance(value, str | bool | int | float):
        return
    if depth > _DEEPEST:
        raise ValueError(f"more than {_DEEPEST} lists and mappings within each other")
    if isinstance(value, dict):
        for name, item in cast("dict[Any, Any]", value).items():
            if not isinstance(name, str):
                # json would make text of numbers, and nobody would get back what was sent.
                raise TypeError(f"JSON has only text for keys of a mapping, got {name!r:.100}")
            _refuse_what_would_change(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in cast("list[Any]", value):
            _refuse_what_would_change(item, depth + 1)
    else:
        raise TypeError(f"JSON cannot carry a {type(value).__name__}")


def arguments_of(error: BaseException) -> list[Any] | None:
    """Those that rebuild this exception, if it is one of Python's own and JSON carries them exactly."""
    cls = builtin(type(error).__qualname__)
    if cls is None or cls is not type(error):
        return None
    # Not `args`: of an OSError these are without the file names.
    arguments = list(cast("tuple[Any, ...]", error.__reduce__()[1]))
    try:
        same = load(dump(arguments)) == arguments and str(cls(*arguments)) == str(error)
    except (TypeError, ValueError, RecursionError):
        return None
    return arguments if same else None


def builtin(name: object) -> type[Exception] | None:
    """One of Python's own exceptions. Not SystemExit and the like: whoever reads a result is not to be ended by it."""
    found = getattr(builtins, name, None) if isinstance(name, str) else None
    return found if isinstance(found, type) and issubclass(found, Exception) else None
