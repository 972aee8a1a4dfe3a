"""Which statements stand in a function's signature: as defaults, and in annotations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from docket.annotations import metadata_of
from docket.dependencies.base import Dependency, Provider


def annotated(function: Callable[..., Any]) -> Mapping[str, list[Dependency]]:
    """Parameter → the statements in its `Annotated[...]`; a bare class there means an instance of it."""
    found: dict[str, list[Dependency]] = {}
    for name, metadata in metadata_of(function).items():
        for each in metadata:
            if isinstance(each, type) and issubclass(each, Dependency):
                found.setdefault(name, []).append(each())
            elif isinstance(each, Dependency):
                found.setdefault(name, []).append(each)
    return found


def injected_into(function: Callable[..., Any], signature: inspect.Signature) -> dict[str, Dependency]:
    """Parameter → the statement that supplies it: its default, or a provider in its annotation."""
    in_annotations = annotated(function)
    found: dict[str, Dependency] = {}
    for parameter in signature.parameters.values():
        providers = [each for each in in_annotations.get(parameter.name, ()) if isinstance(each, Provider)]
        if isinstance(parameter.default, Dependency):
            if providers:
                raise ValueError(
                    f"the parameter {parameter.name!r} has a dependency both as its default and in its annotation"
                )
            found[parameter.name] = parameter.default
        elif len(providers) > 1:
            raise ValueError(
                f"the parameter {parameter.name!r} has more than one dependency in its annotation"
            )
        elif providers:
            found[parameter.name] = providers[0]
    return found


def wrapped_around(function: Callable[..., Any]) -> tuple[tuple[str, Dependency], ...]:
    """The statements in annotations that supply nothing, but say how the call is treated: parameter and statement."""
    return tuple(
        (name, each)
        for name, statements in annotated(function).items()
        for each in statements
        if not isinstance(each, Provider)
    )
