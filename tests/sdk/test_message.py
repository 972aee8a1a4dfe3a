"""What Redis holds of an execution, read tolerantly: one broken record must not blind anybody."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docket.message import CLAIM_WIDTH, FIELDS, Record, name_of, parse_claims, parse_record

WHOLE = {
    "state": b"running",
    "function": b"f",
    "body": b"pbody",
    "when_us": b"1700000000000001",
    "generation": b"7",
    "attempt": b"2",
    "worker": b"host#1/a/abc123",
    "started_us": b"1700000000000002",
    "ttl_ms": b"900000",
}


VALUES = st.none() | st.binary(max_size=12) | st.sampled_from([b"1e400", b"-1", b"inf", b"9" * 40])


def record(**changes: bytes | None) -> Record | None:
    values = {**WHOLE, **changes}
    return parse_record("k", [values.get(field) for field in FIELDS])


def test_a_whole_record_is_read():
    read = record(error=b"caf\xc3\xa9", redelivered=b"1", crashes=b"2")
    assert read is not None
    assert (read.key, read.state, read.function, read.body) == ("k", "running", "f", b"pbody")
    assert (read.generation, read.attempt, read.ttl_ms, read.crashes) == (7, 2, 900000, 2)
    assert read.when.microsecond == 1 and read.started_at and read.started_at.microsecond == 2
    assert read.error == "café" and not read.ended


@pytest.mark.parametrize("field", ["state", "function", "body"])
def test_without_its_essentials_there_is_no_record(field: str):
    assert record(**{field: None}) is None


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled"])
def test_ended_states_are_ended(state: str):
    read = record(state=state.encode())
    assert read is not None and read.ended


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.lists(VALUES, min_size=len(FIELDS), max_size=len(FIELDS)))
def test_no_record_however_broken_raises(values):
    parse_record("k", values)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    st.lists(VALUES, min_size=CLAIM_WIDTH - 3, max_size=CLAIM_WIDTH - 3),
    st.none() | st.lists(VALUES, min_size=5, max_size=5),
)
def test_no_claim_however_broken_raises(values, more):
    (claimed,) = parse_claims([b"d:1-0", b"\xff key", *values, more])
    assert claimed.entry == "d:1-0"
    assert claimed.key.encode(errors="surrogateescape") == b"\xff key"


@pytest.mark.parametrize(
    ("worker_id", "name"), [("w/1", "w"), ("a/b/c/1", "a/b/c"), ("no incarnation", "no incarnation"), ("/x", "/x")]
)  # fmt: skip
def test_the_name_of_a_worker_is_what_stands_before_the_last_slash(worker_id: str, name: str):
    assert name_of(worker_id) == name
