"""A task's signature in one short piece of text."""

from __future__ import annotations

import inspect
from typing import Any

from docket.annotations import Logged
from docket.registry import Task

_SIGNS = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def compact(task: Task) -> str:
    """`ship(order: int, fast: bool = False, ...)`: the dots stand for everything that is injected."""
    shown = [
        _parameter(parameter)
        for parameter in task.signature.parameters.values()
        if parameter.name not in task.injected
    ]
    return f"{task.name}({', '.join([*shown, *(['...'] if task.injected else [])])})"


def _parameter(parameter: inspect.Parameter) -> str:
    text = _SIGNS.get(parameter.kind, "") + parameter.name
    if parameter.annotation is not inspect.Parameter.empty:
        text += f": {_annotation(parameter.annotation)}"
    if parameter.default is not inspect.Parameter.empty:
        text += f" = {Logged().show(parameter.default)}"
    return text


def _annotation(annotation: Any) -> str:
    if isinstance(annotation, str):  # `from __future__ import annotations`
        return annotation
    if hasattr(annotation, "__metadata__"):
        annotation = annotation.__origin__
    return inspect.formatannotation(annotation)
