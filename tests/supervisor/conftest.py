"""Services with stand-ins for workers and steward, ended when their test is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.supervisor.service import Service


@pytest.fixture(params=[True, False], ids=["preload", "no-preload"])
def preload(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def usual() -> dict[str, Any]:
    """Settings of all services of a file, which it may override."""
    return {}


@pytest.fixture
def start(tmp_path: Path, usual: dict[str, Any]) -> Iterator[Callable[..., Service]]:
    services: list[Service] = []

    def started(**settings: Any) -> Service:
        services.append(Service(tmp_path, **{**usual, **settings}))
        return services[-1]

    yield started
    for service in services:
        service.close()
