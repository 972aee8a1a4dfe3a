"""Moments are exact, and always say which time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docket import clock
from docket.errors import NaiveDatetime

MOMENTS = st.datetimes(
    min_value=datetime(1, 1, 2),
    max_value=datetime(9999, 12, 30),
    timezones=st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23))),
)


@settings(deadline=None, derandomize=True, database=None)
@given(MOMENTS)
def test_a_moment_comes_back_to_the_microsecond(moment: datetime):
    assert clock.from_us(clock.to_us(moment)) == moment


def test_a_naive_moment_is_refused_with_a_sentence():
    with pytest.raises(NaiveDatetime, match="time zone") as caught:
        clock.to_us(datetime(2030, 1, 1))
    assert isinstance(caught.value, TypeError) and isinstance(caught.value, ValueError)


@pytest.mark.parametrize("moment", ["x", timedelta(seconds=5), 1.5, datetime(2030, 1, 1).date()])
def test_what_is_no_moment_is_refused_with_a_sentence(moment: object):
    with pytest.raises(TypeError, match="expected the moment to be a datetime, got"):
        clock.to_us(moment)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected when to be a datetime, got"):
        clock.to_us(moment, "when")  # type: ignore[arg-type]


def test_beyond_the_calendar_there_is_its_end():
    """No datetime in UTC can name the last hours of 9999 in the west, and the first of the year 1 in the east."""
    for end, hours in ((datetime.max, -5), (datetime.min, 5)):
        moment = end.replace(tzinfo=timezone(timedelta(hours=hours)))
        assert clock.from_us(clock.to_us(moment)) == end.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("duration", "milliseconds"),
    [
        (timedelta(0), 0),
        (timedelta(microseconds=600), 1),
        (timedelta(seconds=1.5), 1500),
        (timedelta(days=1), 86_400_000),
        (timedelta(seconds=-1), -1000),
    ],
)
def test_durations_for_redis_are_whole_milliseconds(duration: timedelta, milliseconds: int):
    assert clock.to_ms(duration) == milliseconds


def test_now_is_aware_and_agrees_with_itself():
    assert clock.now().tzinfo is UTC
    assert abs(clock.now_us() - clock.to_us(clock.now())) < 1_000_000
    assert clock.monotonic() <= clock.monotonic()


def test_the_form_of_events():
    assert clock.isoformat(1736937005000001) == "2025-01-15T10:30:05.000001Z"
