"""The door between values and bytes: everything that can pass comes out as it went in, everything else is told."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docket import payload
from docket.clock import now
from docket.errors import CannotLoad, CannotStore, ForcedRetry, RemoteTraceback, TaskFailed
from docket.registry import plan

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


def test_one_of_many_that_cannot_be_stored_is_named_by_the_parameter_that_takes_them():
    async def task(first: Any, /, second: Any, *rest: Any, named: Any = None, **more: Any) -> None: ...

    async def fixed(a: Any, b: Any = 0) -> None: ...

    given = plan(task, "task").given
    assert (given(0), given(1), given(2)) == ((), ("first",), ("first", "second"))
    assert given(4) == ("first", "second", "rest", "rest")
    assert (plan(fixed, "fixed").given(1), plan(fixed, "fixed").given(3)) == (("a",), ("a", "b"))
    args = (1, 2, 3, threading.Lock())
    with pytest.raises(CannotStore, match="the argument 'rest'"):
        payload.dump_arguments(args, {}, "task", given(len(args)))


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


def carried(error: BaseException) -> Any:
    return payload.load_exception(payload.dump_exception(raised(error)))


class NotFound(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(f"thing {number} not found")
        self.number = number


class WithDefault(Exception):
    def __init__(self, text: str = "nothing", *, code: int = 0) -> None:
        super().__init__()
        self.text, self.code = text, code


class Prefixed(Exception):
    def __init__(self, *values: Any) -> None:
        super().__init__("prefix", *values)


class Slots(Exception):
    __slots__ = ("__hidden", "code", "never")

    def __init__(self, code: Any = 0) -> None:
        super().__init__("slots")
        self.code, self.__hidden = code, "hidden"


class Unreadable(OSError):
    def __init__(self, path: str, other: str | None = None) -> None:
        super().__init__(13, "unreadable", path, None, other)
        self.path = path


class Exit(SystemExit):
    def __init__(self, code: int) -> None:
        super().__init__(code + 1)


class Missing(ImportError):
    def __init__(self, module: str) -> None:
        super().__init__(f"no {module}", name=module, path="/there")


class BadText(UnicodeDecodeError):
    def __init__(self, data: bytes) -> None:
        super().__init__("utf-8", data, 0, 1, "bad")


class Stopped(StopIteration):
    def __init__(self, value: int) -> None:
        super().__init__(value + 1)


class BadSyntax(SyntaxError):
    def __init__(self, line: int) -> None:
        super().__init__("bad", ("file", line, 2, "text", line, 3))


class Named(Exception):
    """A property lies over what is in its `__dict__`."""

    def __init__(self, name: str, extra: int) -> None:
        super().__init__()
        self.__dict__["name"] = name

    @property
    def name(self) -> str:
        return self.__dict__["name"]


@dataclass(frozen=True)
class Frozen(Exception):
    code: int
    more: str = ""


@dataclass(frozen=True, slots=True)
class FrozenSlots(Exception):
    code: int = 0


@pytest.mark.parametrize(
    ("error", "fields"),
    [
        (NotFound(5), {"number": 5}),
        (WithDefault("some", code=4), {"text": "some", "code": 4}),
        (Prefixed("a", 1), {}),
        (Slots(7), {"code": 7, "_Slots__hidden": "hidden"}),
        (Slots(None), {"code": None}),
        (Unreadable("a", "b"), {"errno": 13, "strerror": "unreadable", "filename": "a", "filename2": "b"}),
        (Unreadable("a"), {"filename": "a", "filename2": None, "path": "a"}),
        (Exit(3), {"code": 4}),
        (Missing("m"), {"name": "m", "path": "/there", "msg": "no m"}),
        (ImportError("x", name="n", path="p"), {"name": "n", "path": "p"}),
        (BadText(b"\xff"), {"object": b"\xff", "start": 0, "end": 1, "encoding": "utf-8", "reason": "bad"}),
        (Stopped(1), {"value": 2}),
        (BadSyntax(4), {"filename": "file", "lineno": 4, "offset": 2, "text": "text", "end_offset": 3}),
        (NameError("x", name="n"), {"name": "n"}),
        (AttributeError("x", name="n", obj=[1]), {"name": "n", "obj": [1]}),
        (AttributeError("x", name="n", obj=threading.Lock()), {"name": "n", "obj": None}),
        (AttributeError("x", name="n", obj=b"much" * 10_000), {"name": "n", "obj": None}),
        (Named("n", 1), {"name": "n"}),
        (Frozen(3), {"code": 3, "more": ""}),
        (Frozen(code=3, more="m"), {"code": 3, "more": "m"}),
        (FrozenSlots(code=3), {"code": 3}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_exception_comes_back_with_all_it_had(error: BaseException, fields: dict[str, Any]):
    loaded = carried(error)
    assert type(loaded) is type(error)
    assert (loaded.args, str(loaded), vars(loaded)) == (error.args, str(error), vars(error))
    assert {name: getattr(loaded, name) for name in fields} == fields
    assert isinstance(loaded.__cause__, RemoteTraceback) and "in raised" in str(loaded.__cause__)


def test_an_exception_of_a_class_that_cannot_be_imported_comes_back_with_all_it_had():
    class Local(NotFound):
        pass

    loaded = carried(Local(3))
    assert type(loaded) is Local and str(loaded) == "thing 3 not found" and loaded.number == 3


class Own(Exception):
    """Leaves out what cannot be pickled, on purpose."""

    def __init__(self, number: Any) -> None:
        super().__init__(f"own {number}", number)
        self.lock = threading.Lock()

    def __reduce__(self) -> Any:
        return Own, (self.args[1],)


class OwnAndWrong(NotFound):
    def __reduce__(self) -> Any:
        return type(self), self.args


class NeverEqual:
    def __eq__(self, other: object) -> bool:
        raise SystemExit(1)

    __hash__ = None  # type: ignore[assignment]


class WithoutEquality:
    pass


@pytest.mark.parametrize("value", [float("nan"), WithoutEquality(), NeverEqual(), {1, 2}], ids=repr)
@pytest.mark.parametrize("kind", [ValueError, Own, Prefixed])
def test_arguments_that_cannot_be_compared_cost_nothing(kind: type[Exception], value: Any):
    error = kind(value)
    loaded = carried(error)
    assert type(loaded) is kind and len(loaded.args) == len(error.args)
    assert type(loaded.args[-1]) is type(value)
    assert hasattr(loaded, "lock") is hasattr(error, "lock")


def test_what_pickle_brings_back_is_written_as_pickle_writes_it():
    """So that nothing but Python is needed to read it."""
    error = ValueError(float("nan"), WithoutEquality())
    expected = payload.dump(error)
    _, _, _, written = payload.load(payload.dump_exception(error))
    assert written == expected


def test_a_way_of_its_own_that_gives_something_else_is_not_taken():
    loaded = carried(OwnAndWrong(5))
    assert type(loaded) is OwnAndWrong and (str(loaded), loaded.number) == ("thing 5 not found", 5)


class Changing(Exception):
    """Cannot come back: what it says is kept nowhere."""

    texts: dict[int, str] = {}  # noqa: RUF012

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts[id(self)] = text

    def __str__(self) -> str:
        return self.texts.get(id(self), "lost")


def test_an_exception_that_would_say_something_else_is_a_task_failed():
    error = Changing("what it says")
    loaded = carried(error)
    assert type(loaded) is TaskFailed and str(loaded) == "Changing: what it says"


class Holding(Exception):
    def __init__(self, *held: Any) -> None:
        super().__init__("holds")
        self.held = held


class Locked(Exception):
    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


class Group(ExceptionGroup[Exception]):
    """Made of something else than what it hands on; so it needs a `__new__`."""

    code: int

    def __new__(cls, errors: Any, code: Any) -> Group:
        self = super().__new__(cls, f"failed with {code}", errors)
        self.code = code
        return self

    def __init__(self, errors: Any, code: Any) -> None:
        super().__init__(errors, code)

    def derive(self, excs: Any) -> Any:
        return Group(excs, self.code)


def test_the_members_of_a_group_come_back_each_as_itself():
    inner = BaseExceptionGroup("inner", [Exit(1), NotFound(2)])
    error = BaseExceptionGroup("outer", [NotFound(1), inner, Slots(3), ValueError("plain")])
    loaded = carried(error)
    assert type(loaded) is BaseExceptionGroup and str(loaded) == str(error)
    assert [str(each) for each in loaded.exceptions] == [str(each) for each in error.exceptions]
    _, held, slots, _ = cast(Any, loaded.exceptions)
    assert [type(each) for each in held.exceptions] == [Exit, NotFound]
    assert held.exceptions[1].number == 2 and slots.code == 3
    assert loaded.args == (error.message, list(loaded.exceptions))


def test_a_member_that_cannot_be_rebuilt_costs_only_itself():
    error = Group([NotFound(1), Locked(), BaseExceptionGroup("inner", [raised(Locked()), NotFound(2)])], 9)
    loaded = carried(error)
    assert type(loaded) is Group and loaded.code == 9 and loaded.message == "failed with 9"
    found: list[str] = []
    lost: list[TaskFailed] = []
    try:
        raise loaded
    except* NotFound as group:
        found += [str(each) for each in (group.exceptions[0], group.exceptions[1].exceptions[0])]  # type: ignore[attr-defined]
    except* TaskFailed as group:
        lost += [group.exceptions[0], group.exceptions[1].exceptions[0]]  # type: ignore[attr-defined,list-item]
    assert found == ["thing 1 not found", "thing 2 not found"]
    assert [str(each) for each in lost] == ["Locked: locked", "Locked: locked"]
    assert isinstance(lost[1].__cause__, RemoteTraceback) and "in raised" in str(lost[1].__cause__)


def test_a_group_that_cannot_be_rebuilt_is_one_of_pythons_own():
    error = Group([NotFound(1), ValueError(2)], 9)
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    loaded = carried(error)
    assert type(loaded) is ExceptionGroup and loaded.message == "failed with 9"
    assert [str(each) for each in loaded.exceptions] == ["thing 1 not found", "2"]
    only_base = carried(BaseExceptionGroup("g", [raised(KeyboardInterrupt()), Locked()]))
    assert type(only_base) is BaseExceptionGroup and isinstance(only_base.exceptions[1], TaskFailed)


def test_what_an_exception_holds_comes_back_each_as_itself():
    loaded = carried(Holding(NotFound(1), [Locked()], Holding(Slots(2))))
    assert type(loaded) is Holding
    first, (second,), third = loaded.held
    assert str(first) == "thing 1 not found" and str(second) == "Locked: locked" and third.held[0].code == 2


def test_an_exception_that_leads_back_to_itself_comes_back_so():
    error: Any = NotFound(1)
    error.held = [Holding(error)]
    loaded: Any = carried(error)
    assert str(loaded) == "thing 1 not found" and loaded.held[0].held[0] is loaded


def test_exceptions_far_within_each_other_are_carried_somehow():
    error: BaseException = NotFound(0)
    for _ in range(300):
        error = Holding(error, NotFound(1))
    assert type(carried(error)) is Holding
    for _ in range(300):
        error = ExceptionGroup("g", [error, NotFound(1)])  # type: ignore[list-item]
    assert isinstance(carried(error), Exception)


def bad(*names: str) -> BaseException:
    """Of a class in which all these raise SystemExit."""

    def fails(*args: Any) -> Any:
        raise SystemExit(3)

    error = type("Bad", (NotFound,), {})(1)
    for name in names:
        setattr(type(error), name, fails)
    return error


@pytest.mark.parametrize(
    "names",
    [
        ("__eq__",),
        ("__str__",),
        ("__reduce_ex__",),
        ("__setstate__", "__setattr__"),
        ("__new__", "__init__"),
        ("__getattribute__",),
        ("__str__", "__repr__", "__reduce__", "__eq__", "__hash__", "__setattr__", "__new__"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_nothing_that_a_class_raises_gets_out(names: tuple[str, ...], as_json: bool):
    for error in (bad(*names), ExceptionGroup("g", [bad(*names)]), ValueError(bad(*names))):  # type: ignore[list-item]
        loaded = payload.load_exception(payload.dump_exception(error, as_json=as_json))
        assert isinstance(loaded, Exception) and isinstance(loaded.__cause__, RemoteTraceback)


def test_what_takes_too_much_costs_only_itself(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(payload, "LARGEST", 40_000)
    loaded = carried(ExceptionGroup("g", [ValueError("x" * 11_000), NotFound(1)]))
    assert isinstance(loaded, TaskFailed)  # its text alone is too much
    error = ValueError("little")
    error.much = "x" * 11_000  # type: ignore[attr-defined]
    loaded = carried(ExceptionGroup("g", [error, NotFound(1)]))
    assert [type(each) for each in loaded.exceptions] == [TaskFailed, NotFound]


def test_records_of_earlier_builds_are_read():
    parts = payload.dump((Stateful, ("7!",), {"code": 7, "hint": "h"}))
    for written in (parts, payload.dump(KeyError("k")), None):
        loaded = payload.load_exception(payload.dump(("Stateful", "7!", "text", written)))
        assert type(loaded) is {parts: Stateful, None: TaskFailed}.get(written, KeyError)


def test_an_exception_by_its_parts_is_read_without_docket():
    """Releases before this one know nothing of parts; what they load is an exception all the same."""
    for error in (Unreadable("a"), Slots(7), NotFound(5), Group([NotFound(1)], 2)):
        _, _, _, written = payload.load(payload.dump_exception(error))
        assert b"docket.exceptions" not in written
        assert str(pickle.loads(written[1:])) == str(error)


def test_in_json_too_an_exception_says_what_it_said():
    for error in (FileNotFoundError(2, "No such file", "a", None, "b"), OSError(5, "I/O"), KeyError("k")):
        loaded = payload.load_exception(payload.dump_exception(error, as_json=True))
        assert type(loaded) is type(error) and str(loaded) == str(error)


def test_a_forced_retry_says_when_wherever_it_is_read():
    when = now() + timedelta(seconds=5)
    error = ForcedRetry(when)
    assert str(carried(error)) == str(error) == f"asked to be retried at {when}"
    assert carried(error).when == when
    # As an earlier build has written it: with its message for an argument.
    earlier = ForcedRetry(f"asked to be retried at {when}")  # type: ignore[arg-type]
    earlier.when = when
    assert str(pickle.loads(pickle.dumps(earlier))) == str(error)


def test_a_forced_retry_without_a_moment_means_now():
    before = now()
    with pytest.raises(ForcedRetry) as caught:
        raise ForcedRetry
    assert before <= caught.value.when <= now()
    assert ForcedRetry(None).when >= before
