"""The only door between Python values and stored bytes, in both directions.

Everything stored begins with one byte that names its codec, so that what one release writes the next can tell apart.
A `Door` is one docket's: it knows the docket's serializer, and its signing keys, and what these refuse is never loaded.
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

from docket import exceptions, plain, signatures
from docket.errors import CannotLoad, CannotStore, RemoteTraceback, TaskFailed, Untrusted
from docket.settings import DocketSettings

_PICKLED = b"p"
_JSON = b"j"
ELSEWHERE = b"e"
"""What stands in place of a result that lies in the user's result storage; `lua/_settle.lua` knows it too."""

_WITH_HEADER = b"t"
"""Then follow the header's length (4 bytes), the header (the trace that a call belongs to), what it stands before."""
_PROTOCOL = 5
_NO_NONCE = bytes(16)

LARGEST = 256 * 1024 * 1024
"""Bytes of one value. Redis takes 512 MB at the most, and closes the connection on more, as if it were away."""

_LONGEST_TEXT = 100_000

_DEEPEST = 20
"""Exceptions held by each other, if pickle alone does not bring them back."""

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def dump(value: Any, *, as_json: bool = False) -> bytes:
    """Raises whatever pickling raises; callers say what it was that could not be stored."""
    if as_json:
        return _JSON + plain.dump(value)
    try:
        pickled = pickle.dumps(value, _PROTOCOL)
        # Pickled by reference, what the main program defines would be looked up in the worker's main program.
        if b"__main__" not in pickled:
            return _PICKLED + pickled
    except Exception:
        pass
    return _PICKLED + cast(Any, cloudpickle).dumps(value, _PROTOCOL)


def load(stored: bytes, *, only_json: bool = False) -> Any:
    """Raises CannotLoad, whatever went wrong. JSON is read by everybody: it can do no harm."""
    if stored[:1] == _JSON:
        try:
            return plain.load(stored[1:])
        except (ValueError, RecursionError) as error:
            raise CannotLoad(f"cannot be read as JSON: {describe(error)}") from error
    if stored[:1] != _PICKLED:
        raise CannotLoad(f"stored in a form that this release does not know: {stored[:20]!r}")
    if only_json:
        raise Untrusted("cannot be trusted: pickled, and this docket has serializer='json'")
    try:
        return pickle.loads(memoryview(stored)[1:])
    except BaseException as error:
        raise CannotLoad(f"cannot be unpickled here: {describe(error)}") from error


def dump_arguments(
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    task: str,
    parameters: Sequence[str] = (),
    *,
    as_json: bool = False,
) -> bytes:
    """The arguments of one call. CannotStore names the parameter that cannot be stored."""
    try:
        stored = dump((tuple(args), dict(kwargs)), as_json=as_json)
    except Exception as error:
        culprit, why = _culprit(args, kwargs, parameters, as_json) or ("the arguments", error)
        cannot = "carry as JSON" if as_json else "pickle"
        raise CannotStore(f"cannot {cannot} {culprit} of the call to {task!r}: {describe(why)}") from error
    refuse_excess(stored, f"the arguments of the call to {task!r}")
    return stored


def refuse_excess(stored: bytes, what: str) -> None:
    """CannotStore, if there is more of it than can be kept."""
    if len(stored) > LARGEST:
        raise CannotStore(
            f"{what} are {len(stored):,} bytes when stored; {LARGEST:,} is the most that can be stored"
        )


def _culprit(
    args: Sequence[Any], kwargs: Mapping[str, Any], parameters: Sequence[str], as_json: bool
) -> tuple[str, Exception] | None:
    named = [
        (f"the argument {parameters[i]!r}" if i < len(parameters) else f"argument number {i + 1}", value)
        for i, value in enumerate(args)
    ]
    named += [(f"the argument {name!r}", value) for name, value in kwargs.items()]
    for name, value in named:
        try:
            dump(value, as_json=as_json)
        except Exception as error:
            return f"{name} (a {type(value).__name__})", error
    return None


def with_header(header: bytes, stored: bytes) -> bytes:
    return _WITH_HEADER + len(header).to_bytes(4, "big") + header + stored if header else stored


def header_of(stored: bytes) -> bytes:
    """Empty, if it has none. Nobody has looked whether it is signed: it is text for traces."""
    stored = signatures.without(stored)
    return stored[5 : 5 + int.from_bytes(stored[1:5], "big")] if stored[:1] == _WITH_HEADER else b""


def load_arguments(stored: bytes, *, only_json: bool = False) -> Arguments:
    """Raises CannotLoad, also if what was stored are not the arguments of a call."""
    stored = signatures.without(stored)
    if stored[:1] == _WITH_HEADER:
        stored = stored[5 + int.from_bytes(stored[1:5], "big") :]
    value = load(stored, only_json=only_json)
    try:
        args, kwargs = value
    except (TypeError, ValueError):
        args = kwargs = None
    if stored[:1] == _JSON and isinstance(args, list):
        args = tuple(cast("list[Any]", args))
    if type(args) is not tuple or type(kwargs) is not dict:
        raise CannotLoad(f"expected the arguments of a call, found a {type(value).__name__}")
    return cast(Arguments, (args, kwargs))


def dump_exception(error: BaseException, *, as_json: bool = False) -> bytes:
    """Never fails: what cannot be stored, or could not be rebuilt, is carried as type, message and traceback.

    Of the exceptions that it holds (a group's members, say) each that could not be rebuilt comes back as TaskFailed.
    """
    name, message, text = type(error).__qualname__, _message_of(error), _traceback_of(error)
    if as_json:
        try:
            arguments = plain.arguments_of(error)
            if arguments is not None and len(plain.dump(arguments)) > LARGEST // 4:
                arguments = None
        except BaseException:
            arguments = None
        return dump((name, message[:_LONGEST_TEXT], text[-_LONGEST_TEXT:], arguments), as_json=True)
    carried = _dump_parts(error, {})
    if len(text) + len(message) + len(carried or b"") > LARGEST // 4:
        message, text, carried = message[:_LONGEST_TEXT], text[-_LONGEST_TEXT:], None
    return dump((name, message, text, carried))


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


_Settled = dict[int, tuple[BaseException, exceptions.Way]]
"""How each exception is carried, by its identity; it is kept here so that no other can have the same."""


def _dump_parts(error: BaseException, settled: _Settled, depth: int = 0) -> bytes | None:
    """In the first way that brings it back; None if none does. What it holds is settled before it, each by itself."""

    def way_of(held: BaseException) -> exceptions.Way:
        if id(held) not in settled:
            _dump_parts(held, settled, depth + 1)
        return settled[id(held)][1]

    # So it stays if there is no way; and so it is for what it holds and what leads back to it, until there is one.
    settled[id(error)] = (error, _STAND_IN)
    if depth > _DEEPEST:
        return None
    # Twice as pickle does it, first all at once: that is quick, and nearly always good.
    for way, at_once in ((exceptions.PLAINLY, True), *((way, False) for way in exceptions.WAYS)):
        try:
            stored = dump(error) if at_once else _PICKLED + exceptions.dump(error, way, way_of)
            copy = load(stored)
            if len(stored) <= LARGEST // 4 and way.arrives(error, copy) and _says_the_same(error, copy):
                settled[id(error)] = (error, way)
                return stored
        except BaseException:
            continue
    return None


def _says_the_same(error: BaseException, copy: BaseException) -> bool:
    one, other = _message_of(error), _message_of(copy)
    return one == other or exceptions.without_addresses(one) == exceptions.without_addresses(other)


def _stand_in(error: BaseException) -> tuple[Any, ...]:
    message, text = _message_of(error)[:_LONGEST_TEXT], _traceback_of(error)[-_LONGEST_TEXT:]
    return TaskFailed, (type(error).__qualname__, message), {"__cause__": RemoteTraceback(text)}


def _always(error: BaseException, copy: BaseException) -> bool:
    return True


_STAND_IN = exceptions.Way(_stand_in, _always)


def _rebuild(carried: Any) -> BaseException | None:
    if isinstance(carried, BaseException):
        return carried
    # Records of earlier builds: an exception by its parts was written as these three.
    cls, args, state = carried
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def load_exception(stored: bytes, *, only_json: bool = False) -> BaseException:
    """The exception itself, or TaskFailed in its place; the remote traceback is its `__cause__`."""
    value = load(stored, only_json=only_json)
    try:
        type_name, message, text, carried = value
    except (TypeError, ValueError):
        raise CannotLoad(f"expected an exception, found a {type(value).__name__}") from None
    error: BaseException | None = None
    if carried is not None:
        try:
            if stored[:1] == _JSON:
                cls = plain.builtin(type_name)
                error = None if cls is None else cls(*carried)
            else:
                error = _rebuild(load(carried))
        except BaseException:
            error = None
    if not isinstance(error, BaseException):
        error = TaskFailed(str(type_name), str(message))
    # Past its class, which may be frozen.
    cast(Any, BaseException.__cause__).__set__(error, RemoteTraceback(str(text)))
    return error


def describe(error: BaseException) -> str:
    """`Type: message`, as it stands in the record."""
    message = _message_of(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


class Door:
    """How the values of one docket become bytes, and which bytes it lets in.

    With `keys` everything is signed with the first of them, and nothing is loaded that none of them has signed. With
    the serializer `json` nothing pickled is loaded. Without keys a signature is not looked at.
    """

    def __init__(self, docket: str, serializer: str = "pickle", keys: Sequence[bytes] = ()) -> None:
        self._docket = _bytes(docket)
        self._json = serializer == "json"
        self._signers = tuple(map(signatures.signer, keys))

    @classmethod
    def of(cls, settings: DocketSettings) -> Door:
        return cls(settings.name, settings.serializer or "pickle", settings.keys)

    @property
    def verb(self) -> str:
        """What it does to values, for sentences."""
        return "carry as JSON" if self._json else "pickle"

    def dump(self, value: Any) -> bytes:
        """Unsigned: it says for nothing yet what it is. Raises what `dump` does."""
        return dump(value, as_json=self._json)

    def dump_arguments(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], task: str, parameters: Sequence[str] = ()
    ) -> bytes:
        return dump_arguments(args, kwargs, task, parameters, as_json=self._json)

    def dump_exception(self, error: BaseException) -> bytes:
        return dump_exception(error, as_json=self._json)

    def sealed_call(self, function: str, key: str, body: bytes) -> bytes:
        """Signed as the call of this task under this key, and no other call of it: that is what the nonce is for."""
        if not self._signers:
            return body
        return signatures.sign(self._signers[0], signatures.fresh_nonce(), self._of(function, key), body)

    def opened_call(self, function: str, key: str, nonce: bytes | None, body: bytes) -> bytes:
        """Untrusted if it is not signed for this call."""
        if not self._signers:
            return signatures.without(body)
        return signatures.verified(self._signers, nonce, self._of(function, key), body)

    def load_arguments(self, function: str, key: str, nonce: bytes | None, body: bytes) -> Arguments:
        """Raises CannotLoad, before anything is loaded if it is not to be."""
        return load_arguments(self.opened_call(function, key, nonce, body), only_json=self._json)

    def sealed_result(self, function: str, key: str, nonce: bytes | None, kind: str, stored: bytes) -> bytes:
        """Signed as what the call with this nonce has returned or raised (`kind`: `value` or `exception`)."""
        if not self._signers:
            return stored
        return signatures.sign(self._signers[0], nonce or _NO_NONCE, self._of(function, key, kind), stored)

    def load_result(self, function: str, key: str, nonce: bytes | None, stored: bytes) -> Any:
        return load(self._opened_result(function, key, nonce, "value", stored), only_json=self._json)

    def load_exception(self, function: str, key: str, nonce: bytes | None, stored: bytes) -> BaseException:
        opened = self._opened_result(function, key, nonce, "exception", stored)
        return load_exception(opened, only_json=self._json)

    def _opened_result(self, function: str, key: str, nonce: bytes | None, kind: str, stored: bytes) -> bytes:
        if not self._signers:
            return signatures.without(stored)
        return signatures.verified(self._signers, nonce or _NO_NONCE, self._of(function, key, kind), stored)

    def sealed_value(self, rule: Sequence[str], stored: bytes) -> bytes:
        """Signed as the value of this rule."""
        if not self._signers:
            return stored
        return signatures.sign(self._signers[0], signatures.fresh_nonce(), self._about(rule), stored)

    def load_value(self, rule: Sequence[str], stored: bytes) -> Any:
        if self._signers:
            nonce = signatures.nonce_of(stored)
            stored = signatures.verified(self._signers, nonce, self._about(rule), stored)
        return load(signatures.without(stored), only_json=self._json)

    def _of(self, function: str, key: str, kind: str = "call") -> tuple[bytes, ...]:
        return (kind.encode(), self._docket, _bytes(function), _bytes(key))

    def _about(self, rule: Sequence[str]) -> tuple[bytes, ...]:
        return (b"strike", self._docket, *map(_bytes, rule))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
