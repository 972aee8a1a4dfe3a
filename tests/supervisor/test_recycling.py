"""Who is recycled, and when: the crew is real, its processes are numbers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from docket_supervisor.crew import Crew
from docket_supervisor.deaths import Death
from docket_supervisor.hiring import Generations
from docket_supervisor.limits import Limits
from docket_supervisor.posts import Post
from docket_supervisor.recycling import Recycling
from docket_supervisor.reliefs import Reliefs
from docket_supervisor.sources import Sources
from tests.supervisor.test_crew import Hiring, Scene

M = 1 << 20
UNREAL = 99_000_000
"""No system has such pids, so no signal reaches anybody."""


class House:
    """A crew of two whose workers are all ready, and a recycling that is called by hand."""

    def __init__(self, **limits: Any) -> None:
        self.scene = Scene()
        self.crew: Crew = self.scene.crew
        self.hiring: Hiring = self.scene.hiring
        self.memory: dict[int, int] = {}
        self.measured: list[int] = []
        self.now = 0.0
        self._pids = iter(range(UNREAL, UNREAL + 100))
        sources = Sources(self._made)
        sources.start()
        self.crew.assemble(sources.current)
        self.recycling = Recycling(
            Limits(**{"jitter": 0.0, **limits}),
            self.crew,
            sources,
            Reliefs(self.crew),
            measure=self._measure,
        )
        self.arrive()

    def _made(self, numbers: Generations) -> Hiring:
        return self.hiring

    def _measure(self, pid: int) -> int:
        self.measured.append(pid)
        return self.memory.get(pid, 0)

    def arrive(self) -> None:
        """Everybody who is asked for comes up."""
        for number in self.scene.asked():
            pid = next(self._pids)
            self.crew.hired(number, pid)
            self.scene.board.writer(number).phase("working")
        self.crew.look()

    def turn(self, seconds: float = 0.0, *, rolling: bool = False) -> list[int]:
        """The seats that are asked for in this turn."""
        self.now += seconds
        self.recycling.turn(self.now, rolling=rolling)
        return list(self.hiring.asked)

    def leave(self, post: Post) -> None:
        assert self.crew.died(Death(post.pid, 0))

    def run(self, slot: int, times: int) -> None:
        writer = self.scene.board.writer(self.crew.slots[slot].number)
        for _ in range(times):
            writer.started("task", False, 0.0)


@pytest.fixture(autouse=True)
def birth(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All workers are born at the moment 0, in order."""
    ticks = iter(range(10_000))
    monkeypatch.setattr("docket.clock.monotonic", lambda: next(ticks) * 1e-6)
    yield


def test_nobody_is_asked_anything_without_a_limit() -> None:
    house = House()
    house.memory = dict.fromkeys(range(UNREAL, UNREAL + 10), 10**12)
    assert house.turn(10_000) == [] and house.measured == []


def test_a_worker_that_has_run_enough_is_relieved_and_works_until_the_other_is_ready() -> None:
    house = House(max_tasks=3)
    old = house.crew.slots[1]
    house.run(1, 2)
    assert house.turn() == []
    house.run(1, 1)
    (seat,) = house.turn()
    assert house.crew.slots[1] is old and house.scene.board.seats[old.number].drain_at is None
    house.arrive()
    house.turn()
    assert house.crew.slots[1].number == seat
    assert house.scene.board.seats[old.number].drain_at is not None


def test_one_is_replaced_at_a_time_those_who_came_first_before_the_others() -> None:
    house = House(max_tasks=1)
    first, second = house.crew.slots
    house.run(0, 5)
    house.run(1, 5)
    assert len(house.turn()) == 1
    house.arrive()
    house.turn()
    assert house.crew.slots[0] is not first
    assert house.turn(60) == [], "the first one drains still"
    house.leave(first)
    assert len(house.turn()) == 1 and house.crew.slots[1] is second
    house.arrive()
    house.turn()
    assert house.crew.slots[1] is not second


def test_memory_is_measured_every_five_seconds_and_counts_twice_in_a_row() -> None:
    house = House(max_memory=100 * M)
    big = house.crew.slots[0].pid
    house.memory[big] = 101 * M
    assert house.turn(1) == [] and len(house.measured) == 2
    assert house.turn(4.9) == [] and len(house.measured) == 2
    house.memory[big] = 99 * M
    assert house.turn(0.1) == [] and len(house.measured) == 4
    house.memory[big] = 101 * M
    assert house.turn(5) == []
    assert len(house.turn(5)) == 1


def test_an_old_worker_is_replaced_whatever_it_does() -> None:
    house = House(max_age=timedelta(minutes=10))
    assert house.turn(599) == []
    assert len(house.turn(2)) == 1


def test_a_replacement_that_dies_leaves_the_old_one_at_work_and_is_tried_again_later() -> None:
    house = House(max_age=timedelta(minutes=10))
    old = house.crew.slots[0]
    (seat,) = house.turn(601)
    house.hiring.asked.clear()
    house.crew.hired(seat, UNREAL + 50)
    assert house.crew.died(Death(UNREAL + 50, 1 << 8))
    assert house.crew.slots[0] is old and house.scene.board.seats[old.number].drain_at is None
    house.now = 0.01
    assert house.turn() == []
    assert house.turn(700) == [seat]


def test_nobody_is_recycled_during_a_roll() -> None:
    house = House(max_tasks=1)
    house.run(0, 5)
    assert house.turn(rolling=True) == []
    assert len(house.turn()) == 1


def test_a_new_worker_begins_anew() -> None:
    house = House(max_tasks=3)
    old = house.crew.slots[0]
    house.run(0, 3)
    house.turn()
    house.arrive()
    house.turn()
    house.leave(old)
    house.run(0, 2)
    assert house.turn() == []
    house.run(0, 1)
    assert len(house.turn()) == 1
