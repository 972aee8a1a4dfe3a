"""Exceptions taken apart, for those that pickle does not bring back as they were.

Pickle calls the constructor with `args`. That is right for most; a constructor that makes its message itself makes it
twice, one that takes something else fails, and what lies in slots is lost. Such an exception is rebuilt by its parts:
made by Python's own `__new__`, so that no code of its class runs, and then given what it had. Mostly this is written
with nothing but what Python has, so that every release reads it.
Here nothing is caught: user code may raise anything, and `payload` tries one way after the other.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import re
from collections.abc import Callable
from types import GetSetDescriptorType, MemberDescriptorType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard, cast

if TYPE_CHECKING:
    from pickle import Pickler as CloudPickler  # which it is derived from; it says nothing of its types
else:
    from cloudpickle import Pickler as CloudPickler

_PROTOCOL = 5

_IN_PYTHON = 1 << 9
"""CPython's flag (Py_TPFLAGS_HEAPTYPE) of a class that was made while the program ran."""

_NOTHING_MORE: tuple[type[Any], ...] = (BaseException, BaseExceptionGroup, object)
"""Classes whose fields are carried anyway, or are not to be."""

_LITTLE = 10_000
"""Bytes of the object whose attribute was missing; it is in the way more often than it is of use."""

_ADDRESS = re.compile("0x[0-9a-fA-F]+")

_MEMBERS: Any = vars(BaseExceptionGroup)["exceptions"]
_MESSAGE: Any = vars(BaseExceptionGroup)["message"]
_NEW_GROUP: Any = vars(BaseExceptionGroup)["__new__"]

Reduced = Any
"""What `__reduce_ex__` returns."""

Reduce = Callable[[BaseException], Reduced]


class Way(NamedTuple):
    """One way to carry an exception, and how to see that it arrives; both may raise anything."""

    reduce: Reduce
    arrives: Callable[[BaseException, BaseException], bool]
    """Given the exception and what came back; what it says (`str()`) is looked at beside that."""


def dump(error: BaseException, way: Way, way_of: Callable[[BaseException], Way]) -> bytes:
    """Pickled this way, and every exception that it holds as `way_of` says."""
    file = io.BytesIO()
    _Pickler(file, error, way, way_of).dump(error)
    return file.getvalue()


def _is_exception(obj: object) -> TypeGuard[BaseException]:
    """By its type: what an object says of its class (`isinstance`) is code of the user's."""
    return issubclass(type(obj), BaseException)


class _Pickler(CloudPickler):
    def __init__(
        self, file: io.BytesIO, error: BaseException, way: Way, way_of: Callable[[BaseException], Way]
    ) -> None:
        super().__init__(file, _PROTOCOL)
        self._first: tuple[BaseException, Way] | None = (error, way)
        self._way_of = way_of

    def reducer_override(self, obj: Any) -> Any:
        if not _is_exception(obj):
            return super().reducer_override(obj)
        if self._first is not None and obj is self._first[0]:
            way, self._first = self._first[1], None  # a group met again among its own members is one it holds
        else:
            way = self._way_of(obj)
        reduced = way.reduce(obj)
        return super().reducer_override(obj) if reduced is NotImplemented else reduced


def _as_pickle_does(error: BaseException) -> Reduced:
    return NotImplemented


def _by_parts(error: BaseException) -> Reduced:
    """Set as anybody would set it. It is set after the exception was made: what it holds may lead back to it."""
    state = {"args": _args(error), **fields_of(error), **vars(error)}
    return *_blank(error), state, None, None, BaseException.__setstate__


def _by_force(error: BaseException) -> Reduced:
    """Set past its class: it may be frozen, or have a `__setattr__` or a property of its own there."""
    return *_blank(error), (_args(error), dict(vars(error)), fields_of(error)), None, None, restore


def _by_members(error: BaseException) -> Reduced:
    """Python's own group in place of one that cannot be rebuilt."""
    _, (_, *content) = _blank(error)
    if not content:
        raise pickle.PicklingError("no group")
    return _NEW_GROUP, (BaseExceptionGroup, *content)


def _blank(error: BaseException) -> tuple[Any, tuple[Any, ...]]:
    """What makes one without calling anything of its class; a group cannot be given its members later."""
    native: Any = type(error)
    while native.__flags__ & _IN_PYTHON:
        native = native.__base__
    new = native.__new__
    if issubclass(native, BaseExceptionGroup):
        return new, (type(error), _MESSAGE.__get__(error), list(_MEMBERS.__get__(error)))
    return new, (type(error),)


def restore(error: BaseException, state: tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]) -> None:
    """Its name stands in stored exceptions."""
    args, attributes, fields = state
    cast(Any, BaseException.args).__set__(error, args)
    vars(error).update(attributes)
    for name, value in fields.items():
        for cls in type(error).__mro__:
            if _is_field(name, vars(cls).get(name)):
                vars(cls)[name].__set__(error, value)
                break


def _args(error: BaseException) -> tuple[Any, ...]:
    return cast(Any, BaseException.args).__get__(error)


def _is_field(name: str, member: Any) -> bool:
    is_place = isinstance(member, MemberDescriptorType | GetSetDescriptorType)
    return is_place and name not in ("__dict__", "__weakref__")


def fields_of(error: BaseException) -> dict[str, Any]:
    """What it has beside `args` and `__dict__`: slots, and what Python's own classes keep (`errno`, `code`, `name`).

    The object whose attribute was missing only if it is little, and data: Python's own pickling leaves it out, and
    whoever reads the exception may have no such class.
    """
    found: dict[str, Any] = {}
    for cls in type(error).__mro__:
        if cls in _NOTHING_MORE:
            continue
        for name, member in vars(cls).items():
            if name in found or not _is_field(name, member):
                continue
            try:
                value = member.__get__(error)
            except AttributeError:
                continue  # never set
            # Python's own show None for what was never set. Set to None, a `filename` would stand in the message.
            if value is None and not cls.__flags__ & _IN_PYTHON:
                continue
            if cls is not AttributeError or name != "obj" or _is_little_data(value):
                found[name] = value
    return found


class _Little(io.BytesIO):
    def write(self, data: Any, /) -> int:
        if self.tell() + len(data) > _LITTLE:
            raise pickle.PicklingError("too much")
        return super().write(data)


class _Data(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        # Asked for all that pickle does not know by itself; so none of the user's code runs.
        raise pickle.PicklingError("no data")


def _is_little_data(value: Any) -> bool:
    try:
        _Data(_Little(), _PROTOCOL).dump(value)
    except (pickle.PicklingError, RuntimeError, MemoryError):  # RuntimeError: too deep, or just being changed
        return False
    return True


class _Everything(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if not _is_exception(obj) or _has_its_own_way(type(obj)):
            return NotImplemented
        return int, (id(type(obj)),), (_args(obj), vars(obj), fields_of(obj), _blank(obj)[1][1:])


def _everything_of(error: BaseException) -> bytes:
    """All that it and the exceptions within it have. Never loaded.

    Compared as bytes: many objects are not equal to a copy of themselves (NaN), or say it in a way of their own. Two
    that are equal may still differ here. That does no harm: by its parts it comes back just as well.
    """
    file = io.BytesIO()
    _Everything(file, _PROTOCOL).dump(error)
    return file.getvalue()


def _has_its_own_way(cls: type[BaseException]) -> bool:
    """Its author has said how it is pickled."""
    if cls in copyreg.dispatch_table:
        return True
    written = [
        vars(each) for each in cls.__mro__ if each.__flags__ & _IN_PYTHON and each is not ExceptionGroup
    ]
    return any("__reduce__" in names or "__reduce_ex__" in names for names in written)


def _is_the_same(error: BaseException, copy: BaseException) -> bool:
    if type(copy) is not type(error):
        return False
    if _has_its_own_way(type(error)):
        # What it leaves out (a connection, a lock) it leaves out on purpose.
        return list(map(_shape, _args(error))) == list(map(_shape, _args(copy)))
    return _everything_of(error) == _everything_of(copy)


def without_addresses(text: str) -> str:
    """An object without a `__repr__` is shown with its address: that its copy has another one means nothing."""
    return _ADDRESS.sub("", text)


def _shape(value: object) -> tuple[int, str]:
    """Of text and numbers all; of anything else its type: to compare these is code of the user's."""
    exact = type(value) in (str, bytes, int, float, complex, bool)
    return id(type(value)), without_addresses(repr(value)) if exact else ""


def _has_the_same_parts(error: BaseException, copy: BaseException) -> bool:
    """The values need no look: nothing but pickle was between them."""
    return (
        type(copy) is type(error)
        and len(_args(copy)) == len(_args(error))
        and vars(copy).keys() == vars(error).keys()
        and fields_of(copy).keys() == fields_of(error).keys()
    )


def _has_as_many_members(error: BaseException, copy: BaseException) -> bool:
    return len(_MEMBERS.__get__(copy)) == len(_MEMBERS.__get__(error))


PLAINLY = Way(_as_pickle_does, _is_the_same)
WAYS = (
    PLAINLY,
    Way(_by_parts, _has_the_same_parts),
    Way(_by_force, _has_the_same_parts),
    Way(_by_members, _has_as_many_members),
)
"""From the best on."""
