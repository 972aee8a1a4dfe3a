"""What the examples find: `Docket()` is the test's own docket, and calls of functions that are not shown are noted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from docket import Docket


@pytest.fixture(autouse=True)
def our_docket_is_the_default(monkeypatch: pytest.MonkeyPatch, docket_name: str, redis_url: str) -> None:
    rest = (Docket.__init__.__defaults__ or ())[2:]
    monkeypatch.setattr(Docket.__init__, "__defaults__", (docket_name, redis_url, *rest))


class Noted:
    """Functions that somebody else has written, by name; every call is noted."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, name: str, result: Any = None) -> Callable[..., Any]:
        async def function(*args: Any) -> Any:
            self.calls.append((name, *args))
            return result(*args) if callable(result) else result

        function.__name__ = name
        return function

    def all(self, *names: str) -> dict[str, Any]:
        return {name: self(name) for name in names}


@pytest.fixture
def noted() -> Noted:
    return Noted()
