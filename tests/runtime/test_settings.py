"""What a worker may do is validated once, with sentences."""

from __future__ import annotations

from datetime import timedelta

import pytest

from docket_runtime.settings import WorkerSettings


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("concurrency", 0, "expected concurrency to be at least 1, got 0"),
        ("concurrency", -3, "expected concurrency to be at least 1, got -3"),
        ("concurrency", 1.5, "expected concurrency to be at least 1, got 1.5"),
        ("threads", 0, "expected threads to be at least 1, got 0"),
        ("message_batch", 0, "expected message_batch to be at least 1, got 0"),
        ("max_crashes", 0, "expected max_crashes to be at least 1, got 0"),
        ("redelivery_timeout", timedelta(0), "expected redelivery_timeout to be positive, got 0:00:00"),
        ("drain_timeout", timedelta(seconds=-1), "expected drain_timeout to be zero or more"),
        ("tasks", ("no colon",), "expected tasks as module:collection, got 'no colon'"),
        ("tasks", ("module:",), "expected tasks as module:collection, got 'module:'"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(option: str, value: object, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        WorkerSettings(**{option: value})  # type: ignore[arg-type]


def test_threads_are_as_many_as_slots_unless_told():
    assert WorkerSettings(concurrency=7).thread_count == 7
    assert WorkerSettings(concurrency=7, threads=2).thread_count == 2


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(AttributeError):
        WorkerSettings().concurrency = 5  # type: ignore[misc]
