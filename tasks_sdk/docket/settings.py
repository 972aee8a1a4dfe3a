"""Where a docket is and how long it keeps what has ended: validated once, here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

DEFAULT_NAME = "docket"
DEFAULT_URL = "redis://localhost:6379/0"


@dataclass(frozen=True)
class DocketSettings:
    """Everything a process must know to open the same docket as another one."""

    name: str = DEFAULT_NAME
    url: str = DEFAULT_URL
    heartbeat_interval: timedelta = timedelta(seconds=2)
    missed_heartbeats: int = 5
    execution_ttl: timedelta = timedelta(minutes=15)
    enable_internal_instrumentation: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("expected the docket's name to have at least one character, got ''")
        if self.heartbeat_interval <= timedelta(0):
            raise ValueError(f"expected heartbeat_interval to be positive, got {self.heartbeat_interval}")
        if self.missed_heartbeats < 1:
            raise ValueError(f"expected missed_heartbeats to be at least 1, got {self.missed_heartbeats}")
        if self.execution_ttl < timedelta(0):
            raise ValueError(f"expected execution_ttl to be zero or more, got {self.execution_ttl}")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> DocketSettings:
        """`DOCKET_NAME` and `DOCKET_URL`, or the defaults."""
        values = os.environ if environment is None else environment
        return cls(name=values.get("DOCKET_NAME", DEFAULT_NAME), url=values.get("DOCKET_URL", DEFAULT_URL))
