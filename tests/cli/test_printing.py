"""Moments and texts as tables show them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from docket.cli.printing import clock_time, printable


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Moves this process into a time zone."""

    def move(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield move
    monkeypatch.undo()
    time.tzset()


NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("away", "expected"),
    [
        (timedelta(0), "(now)"),
        (timedelta(milliseconds=400), "(now)"),
        (timedelta(minutes=5), "(in 5m)"),
        (-timedelta(hours=1, seconds=1), "(1h1s ago)"),
        (timedelta(days=3), "(in 3d)"),
    ],
)
def test_a_moment_and_its_distance(away: timedelta, expected: str) -> None:
    moment = NOW + away
    shown = clock_time(moment, NOW)
    assert shown.endswith(expected)
    assert moment.astimezone().strftime("%H:%M:%S") in shown
    assert shown.startswith("20") == (away > timedelta(days=2))


@pytest.mark.parametrize("moment", [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)])
@pytest.mark.parametrize("zone", ["UTC", "JST-9", "EST5"])
def test_the_ends_of_time_can_be_shown(moment: datetime, zone: str, at: Callable[[str], None]) -> None:
    at(zone)
    assert clock_time(moment, NOW)


def test_no_moment() -> None:
    assert clock_time(None, NOW) == ""


def test_what_could_move_the_cursor_is_escaped() -> None:
    assert printable("a\x1b[2J\n\u202eb\udc80é") == "a\\x1b[2J\\n\\u202eb\\udc80é"
