"""What a docket knows of its tasks, each looked at once."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from typing import Annotated
from unittest import mock

import pytest

from docket import TaskKey
from docket.annotations import Logged
from docket.registry import Registry, load_collection, name_of, plan, returns_awaitable


async def coroutine(a: int, b: str = "b") -> None: ...


def plain(a: int) -> None: ...


def wrapped(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


class AsyncCallable:
    async def __call__(self) -> None: ...


class SyncCallable:
    def __call__(self) -> None: ...


class Holder:
    async def method(self) -> None: ...
    @classmethod
    async def of_class(cls) -> None: ...
    @staticmethod
    async def static() -> None: ...
    def plain(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (coroutine, True),
        (plain, False),
        (functools.partial(coroutine, 1), True),
        (functools.partial(functools.partial(coroutine, 1), b="x"), True),
        (functools.partial(plain, 1), False),
        (wrapped(coroutine), True),
        (wrapped(wrapped(coroutine)), True),
        (functools.partial(wrapped(coroutine), 1), True),
        (wrapped(plain), False),
        (AsyncCallable(), True),
        (SyncCallable(), False),
        (Holder().method, True),
        (Holder.of_class, True),
        (Holder.static, True),
        (Holder().plain, False),
        (functools.partial(AsyncCallable()), True),
        (lambda: None, False),
        (mock.AsyncMock(), True),
        (mock.MagicMock(), False),
        (types.SimpleNamespace, False),
        (print, False),
    ],
    ids=lambda value: getattr(value, "__qualname__", None) or type(value).__name__,
)
def test_functions_are_classified_by_what_calling_them_returns(function, expected: bool):
    assert returns_awaitable(function) is expected


def test_the_name_is_that_of_the_innermost_function():
    assert name_of(coroutine) == "coroutine"
    assert name_of(functools.partial(functools.partial(coroutine, 1), "2")) == "coroutine"
    assert name_of(wrapped(plain)) == "plain"
    assert name_of(AsyncCallable()) == "AsyncCallable"


@pytest.mark.parametrize("thing", [1, "f", None, object(), [plain]])
def test_what_cannot_be_called_cannot_be_a_task(thing):
    with pytest.raises(TypeError):
        plan(thing, "f")


def test_a_plan_knows_what_is_injected_and_what_may_be_logged():
    async def task(a: Annotated[int, Logged], b: int, key: str = TaskKey()) -> None: ...

    task_plan = plan(task, "task")
    assert set(task_plan.injected) == {"key"}
    assert task_plan.parameters == ("a", "b", "key")
    assert task_plan.call_repr("k", (1, 2), {}) == "task(1, ...){k}"


def test_annotations_that_cannot_be_evaluated_do_not_matter():
    def task(a: NoSuchName, b: "list[") -> None: ...  # type: ignore[name-defined]  # noqa: F821, F722

    assert plan(task, "task").call_repr("k", (1, 2), {}) == "task(..., ...){k}"


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"c": 1}), ((1,), {"a": 1}), ((), {"b": 1})]
)
def test_a_wrong_call_is_a_type_error_that_names_the_task(args, kwargs):
    with pytest.raises(TypeError, match=r"coroutine\(\)"):
        plan(coroutine, "coroutine").check_call(args, kwargs)


def test_registering_again_replaces_and_keeps_the_plan_of_the_same_function():
    registry = Registry()
    first = registry.register(coroutine)
    assert registry.register(coroutine) is first
    registry.register(plain, names=["coroutine", "other"])
    assert registry.functions() == {"coroutine": plain, "other": plain}
    assert registry.get("unheard of") is None


def test_a_bad_function_leaves_the_registry_as_it_was():
    registry = Registry()
    registry.register(coroutine)
    with pytest.raises(TypeError):
        registry.register(5, names=["coroutine"])  # type: ignore[arg-type]
    assert registry.functions() == {"coroutine": coroutine}


def test_tasks_may_be_registered_while_somebody_goes_through_them():
    registry = Registry()
    registry.register(lambda: None, names=["a", "b"])
    for name in registry:
        registry.register(lambda: None, names=[f"{name} again"])
    assert set(registry) == {"a", "b", "a again", "b again"}


def test_inspect_is_asked_once_for_each_function():
    registry = Registry()
    registry.register(plain)
    with mock.patch.object(inspect, "signature", side_effect=AssertionError("asked again")):
        registry.register(plain)


def test_collections_are_loaded_by_reference(monkeypatch: pytest.MonkeyPatch):
    module = types.ModuleType("my_tasks")
    module.tasks = [coroutine, plain]  # type: ignore[attr-defined]
    module.one = plain  # type: ignore[attr-defined]
    module.text = "tasks"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_tasks", module)
    assert list(load_collection("my_tasks:tasks")) == [coroutine, plain]
    for reference, error in (
        ("my_tasks", ValueError),
        ("my_tasks:", ValueError),
        (":tasks", ValueError),
        ("my_tasks:none", AttributeError),
        ("no_such_module:tasks", ImportError),
        ("my_tasks:one", ValueError),
        ("my_tasks:text", ValueError),
    ):
        with pytest.raises(error):
            load_collection(reference)
