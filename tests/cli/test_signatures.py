"""A task's signature in one short piece of text."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import pytest

from docket.annotations import Logged
from docket.cli.signatures import compact
from docket.dependencies import Retry, TaskKey
from docket.registry import plan


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def unshowable(x: int = Unshowable()) -> None: ...  # type: ignore[assignment]
def bare(a, b=1): ...  # type: ignore[no-untyped-def]
def injected(a: int, *, key: str = TaskKey(), retry: Retry = Retry()) -> None: ...
def only_injected(key: str = TaskKey()) -> None: ...
def nothing() -> None: ...
def many(*a: int, b: str = "x", **c: float) -> None: ...


def evaluated(a: Any, b: Any, c: Any) -> None: ...


evaluated.__annotations__ = {"a": list[int], "b": Annotated[int, Logged()], "c": inspect.Signature}


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (unshowable, "unshowable(x: int = <Unshowable whose repr raised RuntimeError>)"),
        (bare, "bare(a, b = 1)"),
        (injected, "injected(a: int, ...)"),
        (only_injected, "only_injected(...)"),
        (nothing, "nothing()"),
        (many, "many(*a: int, b: str = 'x', **c: float)"),
        (evaluated, "evaluated(a: list[int], b: int, c: inspect.Signature)"),
    ],
)
def test_it_is_compact(function: Any, expected: str) -> None:
    assert compact(plan(function, function.__name__)) == expected
