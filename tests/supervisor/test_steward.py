"""What the steward concludes from a round of its own, without a Redis."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from typing import Any

import anyio
import pytest
from redis.exceptions import BusyLoadingError, ConnectionError, OutOfMemoryError, ReadOnlyError, ResponseError

from docket.settings import DocketSettings
from docket.store.ledger import ids_in
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

    async def _attempt(self, verb: Any, *, conclusive: bool = False) -> Any:
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


class Rounds(Steward):
    """A steward that does what it is told, and remembers what it told."""

    def __init__(self, partitions: int = 1) -> None:
        self._bulletin = Board(1, 1).bulletin
        self._reachable, self._refusals, self._pause = None, set(), 0.0
        self._worker, self._docket = WorkerSettings(), DocketSettings(partitions=partitions)
        self._channel: Any = self
        self._seats, self._lapsed = (), set()
        self.told: list[bool] = []
        self.renewed: list[list[str]] = []

    def send(self, message: Any) -> None:
        self.told.append(message.reachable)

    def flush(self) -> None: ...

    @property
    def ledger(self) -> Any:
        return self

    async def renew(self, names: list[str], lease: timedelta) -> list[bool]:
        self.renewed.append(names)
        return [False]

    def tries(self, error: Exception | None = None, *, conclusive: bool = False) -> bool | None:
        async def verb() -> bool:
            if error is not None:
                raise error
            return True

        anyio.run(lambda: self._attempt(verb, conclusive=conclusive))
        return self._bulletin.reachable


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionError("refused"), "Redis is away (refused); waiting for it"),
        (BusyLoadingError("loading"), "Redis is away (loading); waiting for it"),
        (ResponseError("CLUSTERDOWN The cluster is down"), "Redis is away (CLUSTERDOWN The cluster is down)"),
        (OutOfMemoryError("full"), "Redis takes no writes (full); waiting for it"),
        (ReadOnlyError("a replica"), "Redis takes no writes (a replica); waiting for it"),
        (ResponseError("Error running script: -OOM command not allowed"), "Redis takes no writes (Error"),
        (ResponseError("MISCONF Redis is configured to save"), "Redis takes no writes (MISCONF"),
        (ResponseError("NOREPLICAS Not enough good replicas"), "Redis takes no writes (NOREPLICAS"),
    ],
)
def test_an_outage_is_told_once_and_is_over_with_a_write(
    error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rounds = Rounds()
    assert rounds.tries(conclusive=True) is True
    assert [rounds.tries(error) for _ in range(3)] == [False] * 3
    assert rounds.tries() is False, "what only reads is answered by one that takes no writes, too"
    assert rounds.tries(conclusive=True) is True
    (away, back) = [record.getMessage() for record in caplog.records]
    assert away.startswith(said) and back == "Redis is back"
    assert rounds.told == [True, False, True]


def test_what_is_no_outage_is_told_each_time_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    rounds = Rounds()
    rounds.tries(conclusive=True)
    assert [rounds.tries(ResponseError("ERR a mistake of ours")) for _ in range(2)] == [True, True]
    assert caplog.text.count("steward could not do this round") == 2


@pytest.mark.parametrize("partitions", [1, 3])
def test_without_anybody_on_the_roll_the_lease_of_nobody_is_renewed(partitions: int) -> None:
    rounds = Rounds(partitions)
    anyio.run(rounds._renew)
    ((nobody,),) = rounds.renewed
    assert len(set(ids_in(nobody, partitions))) == partitions and rounds._bulletin.reachable is True
