"""What a retry states: how often, and after which pause."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from docket import ExponentialRetry, Retry
from docket.errors import ForcedRetry
from tests.runtime.support import now, soon

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Retry(attempts=0), "expected attempts to be at least 1"),
        (lambda: Retry(attempts=-1), "expected attempts to be at least 1"),
        (lambda: Retry(attempts=2, delay=-SECOND), "expected delay to be zero or more"),
        (
            lambda: ExponentialRetry(minimum_delay=SECOND * 2, maximum_delay=SECOND),
            "expected maximum_delay to be at least",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(make, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_for_ever_has_no_last_attempt():
    assert Retry.forever().attempts is None
    assert Retry.forever(SECOND).delay == SECOND
    assert ExponentialRetry.forever(SECOND, SECOND * 4).attempts is None


def test_pauses_double_up_to_the_maximum_and_never_overflow():
    retry = ExponentialRetry(attempts=None, minimum_delay=SECOND, maximum_delay=SECOND * 64)
    assert [retry.pause_after(attempt) / SECOND for attempt in range(1, 9)] == [1, 2, 4, 8, 16, 32, 64, 64]
    assert retry.pause_after(10**9) == SECOND * 64
    endless = ExponentialRetry(attempts=None, minimum_delay=SECOND, maximum_delay=timedelta.max)
    assert endless.pause_after(10**6) <= timedelta.max
    assert ExponentialRetry(minimum_delay=timedelta(0), maximum_delay=SECOND).pause_after(50) == timedelta(0)


def test_the_statement_is_not_changed_by_its_runs():
    statement = ExponentialRetry(attempts=5)
    copy = statement.for_attempt(3)
    assert (copy.attempt, statement.attempt) == (3, 1)
    assert type(copy) is ExponentialRetry and copy.attempts == 5


def test_forcing_another_attempt_says_when():
    retry = Retry(attempts=3)
    with pytest.raises(ForcedRetry) as caught:
        retry.after(SECOND)
    assert isinstance(caught.value.when, datetime)
    assert timedelta(0) < caught.value.when - now() <= SECOND
    when = soon(seconds=5)
    with pytest.raises(ForcedRetry) as caught:
        retry.at(when)
    assert caught.value.when == when
    with pytest.raises(ForcedRetry):
        retry.in_(SECOND)
    with pytest.raises(TypeError, match="time zone"):
        retry.at(datetime(2030, 1, 1))
