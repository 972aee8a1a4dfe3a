"""What a log line shows of a call: what the caller passed, and of that only what the task's author has annotated."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from docket import Depends, Logged
from docket.annotations import metadata_of
from docket.registry import plan

if TYPE_CHECKING:
    from nowhere import Session  # pyright: ignore[reportMissingImports]


async def process_payment(
    customer_id: Annotated[str, Logged],
    credit_card: str,
    amount: Annotated[float, Logged()] = 0.0,
    trace_id: Annotated[str, Logged] = "unknown",
) -> None: ...


async def bulk_update_users(
    user_ids: Annotated[list[str], Logged(length_only=True)],
    metadata: Annotated[dict[str, str], Logged(length_only=True)],
    options: Annotated[set[str], Logged(length_only=True)],
) -> None: ...


def make() -> Any: ...


def shown(function: Any, *args: Any, **kwargs: Any) -> str:
    return plan(function, function.__name__).call_repr("k", args, kwargs)


def test_a_call_reads_as_the_seed_prints_it():
    line = shown(process_payment, "12345", credit_card="4111", amount=150.0, trace_id="abc-123")
    assert line == "process_payment('12345', credit_card=..., amount=150.0, trace_id='abc-123'){k}"


def test_of_collections_the_length_is_shown():
    five = {str(i): "x" for i in range(5)}
    line = shown(bulk_update_users, ["u"] * 150, metadata=five, options=set("abc"))
    assert line == "bulk_update_users([len 150], metadata={len 5}, options={len 3}){k}"


def test_defaults_that_nobody_passed_are_not_shown():
    assert shown(process_payment, "1", "4111") == "process_payment('1', ...){k}"


@pytest.mark.parametrize(
    ("value", "text"),
    [([1], "[len 1]"), ((1, 2), "(len 2)"), ({1}, "{len 1}"), ({}, "{len 0}"), ("four", "[len 4]"), (7, "7")],
)
def test_brackets_tell_the_kind_of_collection(value: Any, text: str):
    assert Logged(length_only=True).show(value) == text


def test_what_is_not_annotated_is_never_shown_wherever_it_is_passed():
    def further(
        a: Annotated[int, Logged], *rest: int, b: Annotated[int, Logged] = 0, **others: int
    ) -> None: ...

    def only_by_place(a: Annotated[int, Logged], /, **others: int) -> None: ...

    def only_by_name(a: int, **others: Annotated[int, Logged]) -> None: ...

    assert shown(further, 1, 22, 33, b=2, c=44) == "further(1, ..., ..., b=2, c=...){k}"
    assert shown(only_by_place, 1, a=22) == "only_by_place(1, a=...){k}"
    assert shown(only_by_name, a=22, b=3) == "only_by_name(a=..., b=3){k}"


def test_variable_parameters_can_be_logged_too():
    def f(*ids: Annotated[int, Logged], **labels: Annotated[str, Logged]) -> None: ...

    assert shown(f, 1, 2, a="x") == "f(1, 2, a='x'){k}"


class Unspeakable:
    def __repr__(self) -> str:
        raise SystemExit("no")

    __len__ = __repr__


def test_a_raising_repr_is_shown_as_such():
    assert Logged().show(Unspeakable()) == "<Unspeakable whose repr raised SystemExit>"
    assert Logged(length_only=True).show(Unspeakable()) == "<Unspeakable whose repr raised SystemExit>"


def test_an_annotation_that_cannot_be_evaluated_hides_no_other():
    def f(
        a: Annotated[int, Logged],
        session: Session = Depends(make),
        b: Annotated[Session, Logged] = None,
        c: Annotated[Session.Kind, Logged] = None,
    ) -> None: ...

    assert shown(f, 1, b=2, c=3) == "f(1, b=2, c=...){k}"


def test_annotations_find_what_is_local_to_the_function_around():
    class Local(Logged): ...

    def f(a: Annotated[int, Local]) -> type[Local]:
        return Local

    assert metadata_of(f)["a"] == (Local,)


def test_a_lambda_in_an_annotation_can_still_be_called():
    def f(a: Annotated[int, Depends(lambda: inspect.isfunction(shown))]) -> None: ...

    (statement,) = metadata_of(f)["a"]
    assert statement.factory() is True


def test_partials_decorators_methods_and_callable_objects_keep_their_annotations():
    def f(a: Annotated[int, Logged], b: Annotated[int, Logged], c: int = 0) -> None: ...

    def decorated(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any: ...

        return wrapper

    class Object:
        def __call__(self, a: Annotated[int, Logged], b: int) -> None: ...
        def method(self, a: Annotated[int, Logged], b: int) -> None: ...

    for function, args, text in (
        (functools.partial(f, 1), (2, 3), "f(2, ...){k}"),
        (functools.partial(decorated(f), c=1), (2, 3), "f(2, 3){k}"),
        (decorated(f), (1, 2, 3), "f(1, 2, ...){k}"),
        (Object(), (1, 2), "f(1, ...){k}"),
        (Object().method, (1, 2), "f(1, ...){k}"),
    ):
        assert plan(function, "f").call_repr("k", args, {}) == text
