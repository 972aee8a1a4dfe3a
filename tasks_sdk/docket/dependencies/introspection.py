"""What a function asks for, for code that looks at the functions of others."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from docket.dependencies.base import Dependency
from docket.dependencies.signature import annotated, injected_into

D = TypeVar("D", bound=Dependency)


def get_dependency_parameters(function: Callable[..., Any]) -> dict[str, Dependency]:
    """Parameter → what supplies it."""
    return injected_into(function, inspect.signature(function))


def get_annotation_dependencies(function: Callable[..., Any]) -> dict[str, list[Dependency]]:
    """Parameter → what stands in its `Annotated[...]`."""
    return dict(annotated(function))


def get_single_dependency_parameter_of_type(
    function: Callable[..., Any], dependency_type: type[D]
) -> tuple[str, D] | None:
    """The parameter that asks for something of this type, and what it says; None if none does."""
    for name, dependency in get_dependency_parameters(function).items():
        if isinstance(dependency, dependency_type):
            return name, dependency
    return None


def get_single_dependency_of_type(dependencies: Mapping[str, Any], dependency_type: type[D]) -> D | None:
    """Among these, by name, the one of this type; None if there is none."""
    return next((each for each in dependencies.values() if isinstance(each, dependency_type)), None)
