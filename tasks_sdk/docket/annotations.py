"""Statements that ride in a parameter's annotation: which arguments may be logged, and how."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Set
from typing import Any, get_type_hints


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


def metadata_of(function: Any) -> dict[str, tuple[Any, ...]]:
    """Parameter → what stands in its `Annotated[...]`. An annotation that cannot be evaluated here has none."""
    inner = inspect.unwrap(function)
    try:
        hints = get_type_hints(inner, include_extras=True)
    except Exception:
        hints = dict(getattr(inner, "__annotations__", {}))
    return {name: tuple(getattr(hint, "__metadata__", ())) for name, hint in hints.items()}


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


def call_repr(
    name: str,
    key: str,
    parameters: tuple[str, ...],
    logged: Mapping[str, Logged],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> str:
    """`name('12345', ..., amount=150.0){key}`: what is not annotated stays `...`."""

    def shown(parameter: str | None, value: Any) -> str:
        how = logged.get(parameter) if parameter is not None else None
        return "..." if how is None else how.show(value)

    positional = [
        shown(parameters[i] if i < len(parameters) else None, value) for i, value in enumerate(args)
    ]
    named = [f"{parameter}={shown(parameter, value)}" for parameter, value in kwargs.items()]
    return f"{name}({', '.join(positional + named)}){{{key}}}"
