"""Whatever somebody writes into Redis, types on a command line or puts into a URL: an answer or a sentence, no more."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from docket import BadURL, payload, progress
from docket.cli.values import parse_value
from docket.durations import describe, parse
from docket.errors import CannotLoad, Untrusted
from docket.execution import ExecutionState
from docket.message import FIELDS, parse_record
from docket.payload import Door
from docket.propagation import unpacked
from docket.signatures import without
from docket.store.connect import check, hide_password, refuse_two_credentials
from docket_supervisor.limits import parse_size

often = settings(max_examples=200, deadline=None, derandomize=True, database=None)

SIGNED = Door("docket", keys=[b"a key"])
PLAIN = Door("docket", serializer="json")
BODY = SIGNED.dump_arguments((1, "two"), {"three": 3}, "f")
SEALED = SIGNED.sealed_call("f", "k", BODY)
NONCE = SEALED[1:17]

STORED = st.binary(max_size=120) | st.builds(
    lambda codec, rest: codec + rest,
    st.sampled_from(
        [b"p", b"j", b"s", b"t", b"e", b"t\0\0\0\x04", b"s" + bytes(48), b"s" + bytes(48) + b"p"]
    ),
    st.binary(max_size=80),
)


@often
@given(STORED)
@example(b"j" + b"[" * 100_000)
@example(b"j" + b"9" * 5000)
@example(b"t\xff\xff\xff\xffx")
@example(b"j[[],{}]")
def test_no_bytes_are_more_than_arguments_or_cannot_be_loaded(stored: bytes):
    for door in (Door("docket"), PLAIN):
        try:
            args, kwargs = door.load_arguments("f", "k", None, stored)
            assert type(args) is tuple and type(kwargs) is dict
        except CannotLoad as error:
            assert str(error)
    payload.header_of(stored)


@often
@given(STORED)
@example(b"j[1]")
@example(b"pN.")
@example(b'j["SystemExit","m","t",[]]')
@example(b'j["KeyError","m","t",{"a":1}]')
@example(b"j[1,2,3,4]")
def test_no_bytes_are_more_than_an_exception_or_cannot_be_loaded(stored: bytes):
    for door in (Door("docket"), PLAIN):
        try:
            error = door.load_exception("f", "k", None, stored)
        except CannotLoad as problem:
            assert str(problem)
        else:
            assert isinstance(error, Exception)


@often
@given(STORED, st.none() | st.binary(max_size=20))
def test_without_its_signature_nothing_is_looked_into(stored: bytes, nonce: bytes | None):
    for load in (SIGNED.load_arguments, SIGNED.load_result, SIGNED.load_exception):
        with pytest.raises(Untrusted):
            load("f", "k", nonce, stored)
    with pytest.raises(Untrusted):
        SIGNED.load_value(["f", "p", "==", ""], stored)


@often
@given(st.data())
def test_no_change_of_what_was_signed_goes_unnoticed(data: st.DataObject):
    place = data.draw(st.integers(0, len(SEALED) - 1))
    changed = data.draw(st.binary(max_size=3).filter(lambda new: new != SEALED[place : place + 1]))
    altered = SEALED[:place] + changed + SEALED[place + 1 :]
    with pytest.raises(Untrusted):
        SIGNED.opened_call("f", "k", NONCE, altered)
    without(altered)


@often
@given(st.text(max_size=20), st.text(max_size=20), st.binary(max_size=20))
def test_a_signature_is_good_for_its_own_call_only(function: str, key: str, nonce: bytes):
    if (function, key, nonce) == ("f", "k", NONCE):
        return
    with pytest.raises(Untrusted):
        SIGNED.opened_call(function, key, nonce, SEALED)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@often
@given(st.lists(JSON), st.dictionaries(st.text(), JSON))
def test_json_gives_back_what_it_took(args: list[Any], kwargs: dict[str, Any]):
    stored = PLAIN.dump_arguments(args, kwargs, "f")
    assert PLAIN.load_arguments("f", "k", None, stored) == (tuple(args), kwargs)


ANYTHING = (
    st.none() | st.binary(max_size=20) | st.sampled_from([b"1e400", b"-1", b"inf", b"9" * 400, b"\xff"])
)


@often
@given(st.lists(ANYTHING, min_size=len(FIELDS), max_size=len(FIELDS)))
def test_a_record_is_one_or_there_is_none(values: list[bytes | None]):
    record = parse_record("k", values)
    assert record is None or ExecutionState(record.state)


@often
@given(st.lists(ANYTHING, min_size=4, max_size=4))
@example([b"x", b"y", b"\xff", b"not a moment"])
@example([b"5", b"7", b"m", b"2025-01-01T00:00:00"])
def test_progress_is_something_whatever_lies_there(values: list[bytes | None]):
    known = progress.parse(values)
    assert isinstance(known.current, int) and isinstance(known.total, int)
    assert known.updated_at is None or known.updated_at.tzinfo is not None


@often
@given(st.binary(max_size=60))
@example(b"[" * 100_000)
@example(json.dumps({"\ud800": 1}).encode())
@example(b"[1]")
def test_a_trace_is_read_or_there_is_none(header: bytes):
    assert isinstance(unpacked(header), dict)


WORDS = st.text(max_size=30) | st.text("0123456789.:dhms -+e٣²", max_size=30) | st.just("9" * 400)


@often
@given(WORDS)
@example("9" * 400 + "d")
@example("1:" + "9" * 400)
def test_a_duration_is_read_or_refused_with_a_sentence(text: str):
    try:
        found = parse(text)
    except ValueError as error:
        assert str(error).startswith("expected ")
    else:
        assert found >= timedelta(0) and abs(parse(describe(found)) - found) <= timedelta(seconds=1)


@often
@given(WORDS | st.text("0123456789.KMGkmg ", max_size=20))
@example("9" * 400 + "G")
def test_a_size_is_read_or_refused_with_a_sentence(text: str):
    try:
        assert parse_size(text) >= 0
    except ValueError as error:
        assert str(error).startswith("expected ")


@often
@given(
    st.sampled_from(["int", "float", "bool", "datetime.timedelta", "datetime.datetime", "decimal.Decimal"]),
    WORDS,
)
@example("int", "9" * 5000)
@example("datetime.timedelta", "nan")
@example("datetime.timedelta", "1e400")
def test_a_value_is_read_or_refused_with_a_sentence(kind: str, text: str):
    try:
        parse_value(f"{kind}:{text}")
    except ValueError as error:
        assert str(error)


SCHEMES = st.sampled_from(
    ("redis", "rediss", "unix", "memory", "embedded", "redis+cluster", "rediss+sentinel", "http", "REDIS")
)
PARTS = st.text(max_size=20) | st.text("abc:/@?#[]%&=,.0123456789", max_size=30)


@often
@given(SCHEMES, PARTS)
@example("redis", "[::1")
@example("redis", "h:٣")
@example("unix", "")
@example("redis", "h/0?socket_timeout=x")
@example("redis", "h/²")
@example("redis+cluster", ",")
@example("redis", "h?db=x")
def test_a_url_is_taken_or_refused_with_a_sentence(scheme: str, rest: str):
    url = f"{scheme}://{rest}"
    try:
        check(url)
    except BadURL as error:
        assert str(error)
    try:
        refuse_two_credentials(url, None)
    except ValueError as error:
        assert str(error)


@often
@given(SCHEMES, st.text("abcxyz:/@?#%&=,.0123456789", max_size=10), PARTS)
@example("redis", "/@", "")
@example("unix", "/tmp/x", "@h")
def test_no_error_about_a_url_shows_its_password(scheme: str, before: str, after: str):
    secret = "hunter2hunter2"
    broken = f"{scheme}://u:{secret}/{before.replace('@', '')}@{after}"
    if scheme not in ("unix", "memory", "embedded"):
        with pytest.raises(BadURL) as caught:
            check(broken)
        assert secret not in str(caught.value)
    for url in (f"{scheme}://u:{secret}@{after}", f"{scheme}://{before}?password={secret}&{after}"):
        assert secret not in hide_password(url), url
        try:
            check(url)
        except BadURL as error:
            assert secret not in str(error), url
