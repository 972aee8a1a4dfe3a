"""Workers whose supervisor has died: each is given the time it was told, and ended afterwards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from docket import clock
from docket_supervisor.board import Board
from docket_supervisor.orphanage import Orphanage
from docket_supervisor.settings import RESERVED_SECONDS, SupervisorSettings
from tests.supervisor.service import eventually, gone

DRAIN, MARGIN = 30.0, 2.0


class Home:
    """An orphanage and its workers, each a process of its own; what it orders is in `orders`."""

    def __init__(self, count: int) -> None:
        durations: dict[str, Any] = {"kill_margin": timedelta(seconds=MARGIN)}
        self.settings = SupervisorSettings(processes=count, max_processes=count, **durations)
        assert self.settings.drain_timeout == timedelta(seconds=DRAIN)
        self.board = Board(self.settings.seats, 10)
        self.processes = [
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) for _ in range(count)
        ]
        for number, process in enumerate(self.processes):
            self.board.seats[number].taken(process.pid)
            self.board.writer(number).enlisted(f"host/{number}")
        self.orphanage = Orphanage(self.settings, self.board.seats)
        self.orders: list[tuple[str, str]] = []

    def round(self, now: float) -> list[bool]:
        """Who is there after a round at this moment."""
        self.orders += [(order.worker_id, order.cause) for order in self.orphanage.round(now)]
        return [not gone(process.pid) for process in self.processes]


@pytest.fixture
def home() -> Iterator[Home]:
    home = Home(2)
    yield home
    for process in home.processes:
        process.kill()
        process.wait()


def test_one_that_was_told_to_leave_earlier_hurries_nobody_else(home: Home) -> None:
    now = clock.monotonic()
    home.board.seats[0].drain_at = now + 5
    home.orphanage.open(now)
    assert home.round(now + 5 + MARGIN - 0.1) == [True, True]
    eventually(lambda: home.round(now + 5 + MARGIN) == [False, True])
    home.round(now + 8)
    assert home.orders == [("host/0", "worker process outlived the drain deadline, after its supervisor")]
    assert home.round(now + DRAIN + MARGIN - 0.1) == [False, True]
    assert home.orphanage.open_still(now + DRAIN + RESERVED_SECONDS - 0.1, [])
    eventually(lambda: home.round(now + DRAIN + MARGIN) == [False, False])
    assert not home.orphanage.open_still(now + DRAIN + RESERVED_SECONDS, [1])


def test_when_all_were_told_it_closes_with_the_last_of_them(home: Home) -> None:
    now = clock.monotonic()
    for seat, seconds in zip(home.board.seats, (5, 8), strict=False):
        seat.drain_at = now + seconds
    home.orphanage.open(now)
    assert home.orphanage.open_still(now + 8 + RESERVED_SECONDS - 0.1, [])
    assert not home.orphanage.open_still(now + 8 + RESERVED_SECONDS, [])
