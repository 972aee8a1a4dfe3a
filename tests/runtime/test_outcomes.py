"""Every way to end, as data that Redis can take."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from docket import payload
from docket_runtime import outcomes

PLAIN = outcomes.Wrapping(payload.Door("d"), "f", "k", None)


def encodable(outcome: outcomes.Outcome) -> bool:
    for operand in outcome[1:]:
        if isinstance(operand, str):
            operand.encode()
    return True


def test_none_is_stored_as_nothing():
    assert outcomes.completed(None, PLAIN) == ("completed", b"", "")


def test_a_value_is_stored():
    outcome = outcomes.completed({"a": 1}, PLAIN)
    assert outcome.verb == "completed" and isinstance(outcome.a, bytes)
    assert payload.load(outcome.a) == {"a": 1}


def test_a_value_that_cannot_be_stored_is_a_failure_that_names_its_type():
    outcome = outcomes.completed(threading.Lock(), PLAIN)
    assert outcome.verb == "failed" and "lock" in str(outcome.a)


@pytest.mark.parametrize(
    "text",
    ["plain", "", "\ud800", "\udcff", "a\0b", "x" * 100_000, "日本語 🎉"],
    ids=lambda text: repr(text[:10]),
)
def test_an_error_is_text_that_redis_can_take(text: str):
    outcome = outcomes.failed(ValueError(text), PLAIN)
    assert encodable(outcome)
    assert str(outcome.a).startswith("ValueError") and len(str(outcome.a)) <= 4100
    assert encodable(outcomes.set_aside(text))
    assert encodable(outcomes.unknown(text))


@pytest.mark.parametrize(
    ("delay", "micros"),
    [
        (timedelta(0), 0),
        (timedelta(seconds=-5), 0),
        (timedelta(microseconds=1), 1),
        (timedelta(days=1), 86_400_000_000),
    ],
)
def test_a_retry_is_so_many_microseconds_from_now(delay: timedelta, micros: int):
    assert outcomes.retry(delay)[:2] == ("retry", micros)


def test_a_retry_after_aeons_is_still_a_moment_that_python_knows():
    from docket import clock

    micros = outcomes.retry(timedelta.max).a
    assert isinstance(micros, int)
    clock.from_us(clock.now_us() + micros)
