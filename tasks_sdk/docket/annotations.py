"""Statements that ride in a parameter's annotation: which arguments may be logged, and how."""

from __future__ import annotations

import builtins
import functools
import inspect
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, cast


class Annotation:
    """The base of our own metadata in `Annotated[...]`."""


class Logged(Annotation):
    """The argument is shown in log lines; with `length_only` just how many items it has."""

    def __init__(self, length_only: bool = False) -> None:
        self.length_only = length_only

    def show(self, value: Any) -> str:
        """Never raises: a failing `repr` is shown as such."""
        try:
            return self._length(value) if self.length_only and hasattr(value, "__len__") else repr(value)
        except BaseException as error:
            return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"

    @staticmethod
    def _length(value: Any) -> str:
        kind: type[Any] = value.__class__
        brackets = "{}" if issubclass(kind, (Mapping, Set)) else "()" if issubclass(kind, tuple) else "[]"
        return f"{brackets[0]}len {len(value)}{brackets[1]}"


class _Unknown(dict[str, Any]):
    """Names as an annotation sees them. What only exists for type checkers stands for `Any`: it says nothing to us, and
    must not hide what stands beside it in `Annotated[...]`."""

    def __missing__(self, name: str) -> Any:
        return Any


def metadata_of(function: Any) -> dict[str, tuple[Any, ...]]:
    """Parameter → what stands in its `Annotated[...]`. An annotation that cannot be evaluated here has none; the
    others are read all the same."""
    inner = _innermost(function)
    annotations: Mapping[str, Any] = getattr(inner, "__annotations__", {})
    if not any(isinstance(annotation, str) for annotation in annotations.values()):
        return {name: _metadata(annotation) for name, annotation in annotations.items()}
    around: dict[str, Any] = getattr(inner, "__globals__", {})
    names = _Unknown({**vars(builtins), **around, **_closure(inner)})
    return {
        name: _metadata(_evaluated(annotation, around, names)) for name, annotation in annotations.items()
    }


def _innermost(function: Any) -> Any:
    """The function whose signature it is in the end: behind partials, decorators and callable objects."""
    inner = function
    while True:
        if isinstance(inner, functools.partial):
            inner = cast("functools.partial[Any]", inner).func
        elif hasattr(inner, "__wrapped__"):
            inner = inspect.unwrap(inner)
        elif inspect.isroutine(inner) or inspect.isclass(inner) or not callable(inner):
            return getattr(inner, "__func__", inner)
        else:
            cls: type[Any] = inner.__class__
            inner = cls.__call__


def _closure(inner: Any) -> dict[str, Any]:
    """The names that a nested function has of the functions around it, as far as it uses them."""
    code = getattr(inner, "__code__", None)
    cells = getattr(inner, "__closure__", None) or ()
    found: dict[str, Any] = {}
    for name, cell in zip(code.co_freevars if code is not None else (), cells, strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue  # not assigned yet
    return found


def _evaluated(annotation: Any, around: dict[str, Any], names: dict[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, around, names)  # `around` is what a lambda in it will see
    except Exception:
        return None


def _metadata(annotation: Any) -> tuple[Any, ...]:
    return tuple(getattr(annotation, "__metadata__", ()))


def logged_parameters(function: Any) -> dict[str, Logged]:
    """Parameter → how it may be logged."""
    found: dict[str, Logged] = {}
    for name, metadata in metadata_of(function).items():
        for each in metadata:
            if each is Logged:
                found[name] = Logged()
            elif isinstance(each, Logged):
                found[name] = each
    return found


@dataclass(frozen=True, slots=True)
class LoggedCalls:
    """How the calls of one task may be logged. Only what the caller passed is shown, and only if it is annotated."""

    positional: tuple[Logged | None, ...]
    further: Logged | None
    by_name: Mapping[str, Logged | None]
    others_by_name: Logged | None

    @classmethod
    def of(cls, function: Any, signature: inspect.Signature) -> LoggedCalls:
        logged = logged_parameters(function)
        positional: list[Logged | None] = []
        further: Logged | None = None
        by_name: dict[str, Logged | None] = {}
        others: Logged | None = None
        for name, parameter in signature.parameters.items():
            how = logged.get(name)
            if parameter.kind is parameter.VAR_POSITIONAL:
                further = how
            elif parameter.kind is parameter.VAR_KEYWORD:
                others = how
            else:
                if parameter.kind is not parameter.KEYWORD_ONLY:
                    positional.append(how)
                if parameter.kind is not parameter.POSITIONAL_ONLY:
                    by_name[name] = how
        return cls(tuple(positional), further, by_name, others)

    def show(self, name: str, key: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """`name('12345', ..., amount=150.0){key}`: what is not annotated stays `...`."""
        shown = [
            _show(self.positional[i] if i < len(self.positional) else self.further, value)
            for i, value in enumerate(args)
        ]
        shown += [
            f"{parameter}={_show(self.by_name.get(parameter, self.others_by_name), value)}"
            for parameter, value in kwargs.items()
        ]
        return f"{name}({', '.join(shown)}){{{key}}}"


def _show(how: Logged | None, value: Any) -> str:
    return "..." if how is None else how.show(value)
