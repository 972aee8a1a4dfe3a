"""The only door between Python values and stored bytes, in both directions.

Everything stored begins with one byte that names its codec, so that what one release writes the next can tell apart.
Plain pickle does most of the work (in C); cloudpickle only what plain pickle cannot carry to another process.
What the worker pickles and unpickles runs code of the user's (`__reduce__`, `__str__`), and that may raise anything,
SystemExit included: hence the `except BaseException`. There is no await inside, so no cancellation can be swallowed.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, cast

import cloudpickle  # pyright: ignore[reportMissingTypeStubs]

from docket.errors import CannotLoad, CannotStore, RemoteTraceback, TaskFailed

_PICKLED = b"p"
ELSEWHERE = b"e"
"""What stands in place of a result that lies in the user's result storage; `lua/_settle.lua` knows it too."""

_WITH_HEADER = b"t"
"""Then follow the header's length (4 bytes), the header (the trace that a call belongs to), what it stands before."""
_PROTOCOL = 5

LARGEST = 256 * 1024 * 1024
"""Bytes of one value. Redis takes 512 MB at the most, and closes the connection on more, as if it were away."""

_LONGEST_TEXT = 100_000

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def dump(value: Any) -> bytes:
    """Raises whatever pickling raises; callers say what it was that could not be stored."""
    try:
        pickled = pickle.dumps(value, _PROTOCOL)
        # Pickled by reference, what the main program defines would be looked up in the worker's main program.
        if b"__main__" not in pickled:
            return _PICKLED + pickled
    except Exception:
        pass
    return _PICKLED + cast(Any, cloudpickle).dumps(value, _PROTOCOL)


def load(stored: bytes) -> Any:
    """Raises CannotLoad, whatever went wrong."""
    if stored[:1] != _PICKLED:
        raise CannotLoad(f"stored in a form that this release does not know: {stored[:20]!r}")
    try:
        return pickle.loads(memoryview(stored)[1:])
    except BaseException as error:
        raise CannotLoad(f"cannot be unpickled here: {describe(error)}") from error


def dump_arguments(
    args: Sequence[Any], kwargs: Mapping[str, Any], task: str, parameters: Sequence[str] = ()
) -> bytes:
    """The arguments of one call. CannotStore names the parameter that does not let itself be pickled."""
    try:
        stored = dump((tuple(args), dict(kwargs)))
    except Exception as error:
        culprit = _culprit(args, kwargs, parameters)
        raise CannotStore(f"cannot pickle {culprit} of the call to {task!r}: {describe(error)}") from error
    refuse_excess(stored, f"the arguments of the call to {task!r}")
    return stored


def refuse_excess(stored: bytes, what: str) -> None:
    """CannotStore, if there is more of it than can be kept."""
    if len(stored) > LARGEST:
        raise CannotStore(
            f"{what} are {len(stored):,} bytes when pickled; {LARGEST:,} is the most that can be stored"
        )


def _culprit(args: Sequence[Any], kwargs: Mapping[str, Any], parameters: Sequence[str]) -> str:
    named = [
        (f"the argument {parameters[i]!r}" if i < len(parameters) else f"argument number {i + 1}", value)
        for i, value in enumerate(args)
    ]
    named += [(f"the argument {name!r}", value) for name, value in kwargs.items()]
    for name, value in named:
        try:
            dump(value)
        except Exception:
            return f"{name} (a {type(value).__name__})"
    return "the arguments"


def with_header(header: bytes, stored: bytes) -> bytes:
    return _WITH_HEADER + len(header).to_bytes(4, "big") + header + stored if header else stored


def header_of(stored: bytes) -> bytes:
    """Empty, if it has none."""
    return stored[5 : 5 + int.from_bytes(stored[1:5], "big")] if stored[:1] == _WITH_HEADER else b""


def load_arguments(stored: bytes) -> Arguments:
    """Raises CannotLoad, also if what was stored are not the arguments of a call."""
    if stored[:1] == _WITH_HEADER:
        stored = stored[5 + int.from_bytes(stored[1:5], "big") :]
    value = load(stored)
    try:
        args, kwargs = value
    except (TypeError, ValueError):
        args = kwargs = None
    if type(args) is not tuple or type(kwargs) is not dict:
        raise CannotLoad(f"expected the arguments of a call, found a {type(value).__name__}")
    return cast(Arguments, (args, kwargs))


def dump_exception(error: BaseException) -> bytes:
    """Never fails: what cannot be pickled, or could not be unpickled, is carried as type, message and traceback."""
    carried = None
    try:
        candidate = dump(error)
        if type(load(candidate)) is type(error):
            carried = candidate
    except BaseException:
        carried = _dump_parts(error)
    text = _traceback_of(error)
    message = _message_of(error)
    if len(text) + len(message) + len(carried or b"") > LARGEST // 4:
        message, text, carried = message[:_LONGEST_TEXT], text[-_LONGEST_TEXT:], None
    return dump((type(error).__qualname__, message, text, carried))


def _traceback_of(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException as failure:
        return f"(its traceback cannot be shown: {type(failure).__name__})"


def encodable(text: str) -> str:
    """The text with what UTF-8 cannot carry (lone surrogates) written out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _message_of(error: BaseException) -> str:
    try:
        return encodable(str(error))
    except BaseException as failure:
        return f"(its message cannot be shown: {type(failure).__name__})"


def _dump_parts(error: BaseException) -> bytes | None:
    """For exceptions whose constructor takes something else than their `args`: rebuilt without calling it."""
    try:
        parts = dump((type(error), error.args, dict(vars(error))))
        return parts if isinstance(_rebuild(load(parts)), type(error)) else None
    except BaseException:
        return None


def _rebuild(carried: Any) -> BaseException | None:
    if isinstance(carried, BaseException):
        return carried
    cls, args, state = carried
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def load_exception(stored: bytes) -> BaseException:
    """The exception itself, or TaskFailed in its place; the remote traceback is its `__cause__`."""
    type_name, message, text, carried = load(stored)
    error: BaseException | None = None
    if carried is not None:
        try:
            error = _rebuild(load(carried))
        except BaseException:
            error = None
    if not isinstance(error, BaseException):
        error = TaskFailed(type_name, message)
    error.__cause__ = RemoteTraceback(text)
    return error


def describe(error: BaseException) -> str:
    """`Type: message`, as it stands in the record."""
    message = _message_of(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
