"""When a worker has served for long enough, without a worker."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from docket_supervisor.limits import Lifespan, Limits, describe_size, parse_size

M = 1 << 20
MINUTE = timedelta(minutes=1)


def lifespan(draw: float = 0.0, **limits: Any) -> Lifespan:
    return Lifespan(Limits(**limits), lambda least, most: most * draw)


@pytest.mark.parametrize(
    ("text", "size"),
    [("160M", 160 * M), ("1g", 1 << 30), ("1.5G", 3 << 29), (" 2048K ", 2 * M), ("1048576", M)],
)
def test_sizes_are_binary(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "160 MB", "-1M", "1T"])
def test_what_is_no_size_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_size(text)
    assert str(refused.value) == f"expected a size such as 160M or 1G, got {text!r}"


@pytest.mark.parametrize("text", ["160M", "1G", "1.5G", "4K", "12"])
def test_a_size_is_written_as_it_was_given(text: str) -> None:
    assert describe_size(parse_size(text)) == text


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"max_tasks": 0}, "expected --max-tasks to be at least 1, got 0"),
        ({"max_memory": 160}, "expected --max-memory to be at least 1M, got 160"),
        ({"max_age": timedelta(0)}, "expected --max-age to be above zero, got 0s"),
        ({"jitter": 1.0}, "expected --recycle-jitter to be at least 0 and below 1, got 1"),
        ({"jitter": -0.1}, "expected --recycle-jitter to be at least 0 and below 1, got -0.1"),
    ],
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as refused:
        Limits(**limits)
    assert str(refused.value) == sentence


def test_nothing_is_limited_unless_it_is_asked_for() -> None:
    assert not Limits().any
    life = lifespan()
    life.ran(10**9)
    life.aged(10**9)
    life.measured(10**15)
    life.measured(10**15)
    assert life.over == ""


ONE: list[tuple[dict[str, Any], Callable[[Lifespan, float], None], float, str]] = [
    ({"max_tasks": 100}, lambda life, value: life.ran(int(value)), 100, "100 tasks, of 100"),
    ({"max_age": MINUTE}, lambda life, value: life.aged(value), 60, "1m old, of 1m"),
]


@pytest.mark.parametrize(("limits", "look", "limit", "said"), ONE)
def test_a_limit_is_reached_and_stays_so(
    limits: dict[str, Any], look: Callable[[Lifespan, float], None], limit: float, said: str
) -> None:
    life = lifespan(**limits)
    look(life, limit - 1)
    assert life.over == ""
    look(life, limit)
    assert life.over == said
    look(life, 0)
    assert life.over == said


@pytest.mark.parametrize(
    ("samples", "over"),
    [
        ([161], False),
        ([161, 161], True),
        ([161, 160, 161], False),
        ([161, 160, 161, 170], True),
        ([160, 160, 160], False),
    ],
)
def test_memory_counts_when_two_samples_in_a_row_are_above_the_limit(samples: list[int], over: bool) -> None:
    life = lifespan(max_memory=160 * M)
    for sample in samples:
        life.measured(sample * M)
    assert bool(life.over) is over
    if over:
        assert life.over == f"{samples[-1]}M of private memory, of 160M"


def test_jitter_lowers_every_limit_by_a_fraction_of_it_and_never_raises_one() -> None:
    limits: dict[str, Any] = {
        "max_tasks": 1000,
        "max_memory": 100 * M,
        "max_age": MINUTE,
        "jitter": 0.1,
    }
    for draw, share in ((0.0, 1.0), (0.5, 0.95), (1.0, 0.9)):
        life = lifespan(draw, **limits)
        assert life.tasks == math.ceil(1000 * share)
        assert life.memory == pytest.approx(100 * M * share)
        assert life.age == pytest.approx(60 * share)


def test_no_two_workers_need_have_the_same_limit() -> None:
    limits = Limits(max_tasks=10_000)
    drawn = {Lifespan(limits).tasks for _ in range(50)}
    assert len(drawn) > 10 and all(9_000 <= tasks <= 10_000 for tasks in drawn)
