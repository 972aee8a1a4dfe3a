"""Durations are read and written the same way by every option of every command."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docket import ExponentialRetry, Perpetual, Retry, Timeout
from docket.durations import describe, parse
from docket.settings import DocketSettings
from docket_runtime.settings import WorkerSettings


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("250ms", 0.25),
        ("1.5s", 1.5),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1d2h3m4s5ms", 93784.005),
        ("0.5h", 1800),
        ("05:30", 330),
        ("1:02:03", 3723),
        ("90:00", 5400),
        ("0:01.5", 1.5),
        ("30", 30),
        ("1.5", 1.5),
        ("0", 0),
        (" 10S ", 10),
    ],
)
def test_a_duration_is_read_as_people_write_it(text: str, seconds: float) -> None:
    assert parse(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", " ", "s", "abc", "-5s", "5s5s", "30s1h", "1:75", "1:99:00", "5 minutes", "1e3"]
)
def test_anything_else_is_refused_with_a_sentence_that_shows_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected .* duration") as refused:
        parse(text)
    assert repr(text) in str(refused.value)


def test_a_duration_that_no_clock_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="that a clock can hold"):
        parse("9" * 20 + "d")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (1.5, "1.5s"),
        (30, "30s"),
        (300, "5m"),
        (5400, "1h30m"),
        (86_400, "1d"),
        (90_061, "1d1h1m1s"),
        (0.000001, "0.000001s"),
        (-30, "-30s"),
    ],
)
def test_a_duration_is_written_in_its_shortest_form(seconds: float, text: str) -> None:
    assert describe(timedelta(seconds=seconds)) == text


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=10_000)))
def test_what_is_written_is_read_back_the_same(duration: timedelta) -> None:
    assert parse(describe(duration)) == duration


@pytest.mark.parametrize(
    ("kind", "given", "sentence"),
    [
        (Timeout, {"base": 5}, "expected a timeout to be a timedelta, got 5"),
        (Retry, {"delay": 5}, "expected delay to be a timedelta, got 5"),
        (ExponentialRetry, {"maximum_delay": "1m"}, "expected maximum_delay to be a timedelta, got '1m'"),
        (Perpetual, {"every": 5}, "expected every to be a timedelta, got 5"),
        (DocketSettings, {"heartbeat_interval": 2}, "expected heartbeat_interval to be a timedelta, got 2"),
        (WorkerSettings, {"drain_timeout": 30}, "expected drain_timeout to be a timedelta, got 30"),
    ],
)
def test_what_is_no_duration_is_refused_with_a_sentence(
    kind: Callable[..., object], given: dict[str, object], sentence: str
):
    with pytest.raises(TypeError, match=sentence):
        kind(**given)
