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


def logged_parameters(signature: inspect.Signature, function: Any) -> dict[str, Logged]:
    """Parameter → how it may be logged. Annotations that cannot be evaluated log nothing."""
    try:
        hints = get_type_hints(inspect.unwrap(function), include_extras=True)
    except Exception:
        hints = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    found: dict[str, Logged] = {}
    for name in signature.parameters:
        for metadata in getattr(hints.get(name), "__metadata__", ()):
            if metadata is Logged:
                found[name] = Logged()
            elif isinstance(metadata, Logged):
                found[name] = metadata
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
