"""What the steward concludes from a round of its own, without a Redis."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import anyio
import pytest

from docket_runtime.settings import WorkerSettings
from docket_supervisor.board import Board
from docket_supervisor.steward import Steward


class Scene(Steward):
    """One worker; `renew` says what has become of it when its lease was to be renewed."""

    def __init__(self, phase: str) -> None:
        self.board = Board(1, 1)
        self.writer = self.board.writer(0)
        self.writer.phase("working")
        self.writer.enlisted("w/1")
        self.board.seats[0].taken(os.getpid())
        self._seats, self._lapsed, self._worker = self.board.seats, set(), WorkerSettings()
        self._channel: Any = self
        self._phase = phase

    def flush(self) -> None: ...

    @property
    def ledger(self) -> Any:
        return self

    async def _attempt(self, verb: Any) -> Any:
        return await verb()

    async def renew(self, names: list[str], lease: timedelta) -> list[bool]:
        self.writer.phase(self._phase)
        return [False]


@pytest.mark.parametrize(("phase", "told"), [("working", True), ("left", False)])
def test_who_has_signed_off_while_its_lease_was_being_renewed_has_not_lapsed(
    phase: str, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It leaves the roll first, and takes its name from the board then."""
    scene = Scene(phase)
    anyio.run(scene._renew)
    assert ("lease of worker w/1 has lapsed" in caplog.text) == told
    assert scene._lapsed == ({"w/1"} if told else set())
    assert not scene.board.seats[0].vouched_at(os.getpid())
