"""The door between values and bytes: everything that can pass comes out as it went in, everything else is told."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docket import payload
from docket.errors import CannotLoad, CannotStore, RemoteTraceback, TaskFailed

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
    | st.timedeltas()
    | st.uuids(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(VALUES)
def test_values_come_out_as_they_went_in(value: Any):
    assert payload.load(payload.dump(value)) == value


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.binary(max_size=60))
def test_garbage_is_refused_with_one_exception(garbage: bytes):
    for stored in (garbage, b"p" + garbage):
        try:
            payload.load(stored)
        except CannotLoad as error:
            assert str(error)


def test_functions_of_the_main_program_travel_by_value():
    """By reference, the worker would look for them in its own main program."""
    program = (
        "import sys\nfrom docket import payload\n"
        "class Local:\n    def __init__(self, n): self.n = n\n"
        "def double(n): return 2 * n\n"
        "sys.stdout.buffer.write(payload.dump((double, Local(3), '__main__')))"
    )
    stored = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, timeout=30
    ).stdout
    function, local, text = payload.load(stored)
    assert (function(21), local.n, text) == (42, 3, "__main__")


def test_closures_and_lambdas_travel():
    offset = 5
    assert payload.load(payload.dump(lambda number: number + offset))(1) == 6


@pytest.mark.parametrize(
    ("args", "kwargs", "parameters", "named"),
    [
        ((threading.Lock(),), {}, ("a",), "'a'"),
        ((1, threading.Lock()), {}, ("a",), "number 2"),
        ((1,), {"b": threading.Lock()}, ("a", "b"), "'b'"),
        (([[threading.Lock()]],), {}, (), "number 1"),
    ],
)
def test_the_argument_that_cannot_be_stored_is_named(args, kwargs, parameters, named):
    with pytest.raises(CannotStore, match=named) as caught:
        payload.dump_arguments(args, kwargs, "task", parameters)
    assert "'task'" in str(caught.value) and "lock" in str(caught.value)
    assert isinstance(caught.value, TypeError)


class Evil:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


@pytest.mark.parametrize("error", [ValueError("x"), RecursionError(), AttributeError("y")])
def test_an_argument_whose_pickling_raises_is_named_whatever_it_raises(error: BaseException):
    with pytest.raises(CannotStore, match="'a'"):
        payload.dump_arguments((Evil(error),), {}, "task", ("a",))


@pytest.mark.parametrize("value", [None, 1, "text", ((), []), ([], {}), ((), {}, 1)], ids=repr)
def test_what_are_no_arguments_is_refused(value: Any):
    with pytest.raises(CannotLoad, match="expected the arguments"):
        payload.load_arguments(payload.dump(value))


class Stateful(Exception):
    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(f"{code}!")
        self.code, self.hint = code, hint


class BadState(Exception):
    def __setstate__(self, state: Any) -> None:
        raise RuntimeError("cannot be restored")


class BadStr(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_an_exception_keeps_its_type_state_notes_and_traceback():
    error = Stateful(7, hint="h")
    error.add_note("a note")
    loaded = payload.load_exception(payload.dump_exception(raised(error)))
    assert isinstance(loaded, Stateful) and (loaded.code, loaded.hint, str(loaded)) == (7, "h", "7!")
    assert loaded.__notes__ == ["a note"]
    assert isinstance(loaded.__cause__, RemoteTraceback) and "in raised" in str(loaded.__cause__)


def test_an_exception_that_cannot_be_rebuilt_is_a_task_failed():
    error = BadState("x")
    error.more = 1  # type: ignore[attr-defined]
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    loaded = payload.load_exception(payload.dump_exception(raised(error)))
    assert isinstance(loaded, TaskFailed) and loaded.type_name == "BadState" and loaded.message == "x"
    assert str(loaded) == "BadState: x"


def test_causes_and_contexts_are_in_the_remote_traceback():
    try:
        try:
            raise KeyError("the root")
        except KeyError as root:
            raise ValueError("on top") from root
    except ValueError as error:
        loaded = payload.load_exception(payload.dump_exception(error))
    assert "the root" in str(loaded.__cause__) and "on top" in str(loaded)


def test_a_message_that_cannot_be_shown_does_not_matter():
    error = raised(BadStr())
    assert payload.describe(error).startswith("BadStr")
    assert isinstance(payload.load_exception(payload.dump_exception(error)), Exception)


def test_a_very_deep_exception_is_carried_somehow():
    error: BaseException = ValueError("bottom")
    for _ in range(2000):
        above = ValueError("above")
        above.__cause__ = error
        error = above
    assert isinstance(payload.load_exception(payload.dump_exception(error)), Exception)


def test_what_is_stored_says_how():
    assert payload.dump(1)[:1] == b"p"
    with pytest.raises(CannotLoad, match="does not know"):
        payload.load(b"z" + pickle.dumps(1))


def test_ordinary_arguments_take_few_bytes():
    assert len(payload.dump_arguments((12345, "Jane"), {"when": timedelta(1)}, "f", ())) < 100
