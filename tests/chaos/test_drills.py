"""The drills: a seed decides what is done when, and each deed has its turn."""

from __future__ import annotations

import os
import random
from itertools import islice
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos.drills import DRILLS, Drill
from chaos.experiment import can_be_had
from chaos.mischief import Mischief
from chaos.skew import put_wrong
from docket import clock


def schedule(drill: Drill, seed: int, length: int) -> list[Any]:
    return list(islice(Mischief(cast(Any, None), drill, seed)._schedule(), length))


@pytest.mark.parametrize("drill", DRILLS.values(), ids=DRILLS.keys())
def test_every_deed_comes_once_before_any_comes_again(drill: Drill) -> None:
    assert set(schedule(drill, 3, len(drill.deeds))) == set(drill.deeds)


def test_a_seed_decides() -> None:
    storm = DRILLS["storm"]
    assert schedule(storm, 1, 100) == schedule(storm, 1, 100) != schedule(storm, 2, 100)


def test_what_a_deed_chooses_does_not_depend_on_what_others_have_chosen() -> None:
    def chosen(processes: int) -> list[float]:
        stage: Any = SimpleNamespace(dice=random.Random())
        found: list[float] = []

        def deed(stage: Any) -> None:
            found.append(stage.dice.random())
            for _ in range(processes):
                stage.dice.random()

        mischief = Mischief(stage, Drill("d", "", {deed: 1}, pause=(0.0, 0.0)), seed=7)
        for _ in range(5):
            mischief.turn()
        return found

    assert chosen(1) == chosen(9) and len(set(chosen(1))) == 5


def test_a_redis_of_somebody_else_is_not_ended() -> None:
    assert can_be_had(DRILLS["restart-redis"], "redis://elsewhere")
    assert can_be_had(DRILLS["storm"], "rediss://elsewhere")
    assert can_be_had(DRILLS["storm"], "redis://elsewhere") is None


def test_a_clock_put_wrong_is_wrong_for_the_time_of_day_only() -> None:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        before = clock.now(), clock.now_us(), clock.monotonic()
        put_wrong(1000.0)
        after = clock.now(), clock.now_us(), clock.monotonic()
        off = (after[0] - before[0]).total_seconds()
        told = abs(off) > 0.5, abs(off - (after[1] - before[1]) / 1e6) < 1, after[2] - before[2] < 0.5
        os.write(writing, repr(told).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reading, 100) == b"(True, True, True)"
