"""The tasks that a docket knows, each looked at once: how to call it, what it takes, what is injected."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

from docket.annotations import LoggedCalls
from docket.dependencies.base import Dependency
from docket.dependencies.limits import Admission, Limit, limits_among
from docket.dependencies.signature import injected_into, wrapped_around
from docket.dependencies.statements import check, check_limits

TaskFunction = Callable[..., Any]

_MARK: Any = getattr(asyncio.coroutines, "_is_coroutine", object())
"""What older asyncio hangs on something (an AsyncMock, say) to mark that calling it gives a coroutine."""

_EMPTY = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Task:
    """One registered function and all that `inspect` will ever be asked about it."""

    name: str
    function: TaskFunction
    signature: inspect.Signature
    is_async: bool
    injected: Mapping[str, Dependency]
    logged: LoggedCalls
    wrapped: tuple[tuple[str, Dependency], ...] = ()
    limits: tuple[Limit, ...] = ()
    takes: range = range(0)
    """How many arguments, if they are given by position and that is all there is to check; else empty."""
    positional: tuple[str, ...] = ()
    """The parameters that an argument by position can go to, without `*rest`."""
    rest: tuple[str, ...] = ()
    """The name of `*rest`, if it has one."""

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(self.signature.parameters)

    def given(self, count: int) -> tuple[str, ...]:
        """The parameter that each of so many arguments by position goes to; `*rest` takes all that are left."""
        return self.positional[:count] + self.rest * (count - len(self.positional))

    def call_repr(self, key: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """The call as it may be logged."""
        return self.logged.show(self.name, key, args, kwargs)

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Parameter → its value in such a call: defaults included, what is injected not."""
        bound = self.signature.bind_partial(*args, **kwargs)
        supplied = set(bound.arguments)
        bound.apply_defaults()
        found: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            if self.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                found |= value
            elif name in supplied or name not in self.injected:
                found[name] = value
        return found

    def check_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """TypeError, as a direct call with these arguments would raise it."""
        if not kwargs and len(args) in self.takes:
            return
        try:
            if all(self.signature.parameters[name].default is not _EMPTY for name in self.injected):
                self.signature.bind(*args, **kwargs)
                return
            bound = self.signature.bind_partial(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}() cannot be called like this: {error}") from None
        for parameter in self.signature.parameters.values():
            optional = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            given = optional or parameter.default is not _EMPTY or parameter.name in bound.arguments
            if not given and parameter.name not in self.injected:
                raise TypeError(
                    f"{self.name}() cannot be called like this: missing a required argument: {parameter.name!r}"
                )


def name_of(function: TaskFunction) -> str:
    """The name under which a callable is registered unless another is given."""
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    name = getattr(inner, "__name__", None)
    return name if isinstance(name, str) else type(inner).__name__


def returns_awaitable(function: TaskFunction) -> bool:
    """Whether calling it gives something to await: looks through partials, decorators and callable objects."""
    inner: Any = function
    while True:
        if inspect.iscoroutinefunction(inner) or getattr(inner, "_is_coroutine", None) is _MARK:
            return True
        if isinstance(inner, functools.partial):
            inner = cast("functools.partial[Any]", inner).func
        elif "__wrapped__" in getattr(inner, "__dict__", {}):
            inner = inner.__wrapped__
        elif not inspect.isroutine(inner) and not inspect.isclass(inner):
            cls: type[Any] = inner.__class__
            return callable(inner) and inspect.iscoroutinefunction(cls.__call__)
        else:
            return False


def plan(function: TaskFunction, name: str) -> Task:
    """Everything about a function, computed once. TypeError says why something cannot be a task."""
    if not callable(function):
        raise TypeError(f"expected a function as a task, got {function!r}")
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise TypeError(f"{name} is a generator function: a task returns once, it cannot yield")
    try:
        signature = inspect.signature(function)
    except ValueError as error:
        raise TypeError(f"{name} cannot be a task: {error}") from error
    injected = injected_into(function, signature)
    wrapped = wrapped_around(function)
    limits = limits_among(injected.items(), wrapped)
    check(name, signature, injected, wrapped)
    check_limits(name, signature, injected, limits)
    return Task(
        name,
        function,
        signature,
        returns_awaitable(function),
        injected,
        LoggedCalls.of(function, signature),
        tuple(each for each in wrapped if not isinstance(each[1], Admission)),
        limits,
        range(0) if injected else _positions(signature),
        _named(signature, inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD),
        _named(signature, inspect.Parameter.VAR_POSITIONAL),
    )


def _named(signature: inspect.Signature, *kinds: Any) -> tuple[str, ...]:
    return tuple(each.name for each in signature.parameters.values() if each.kind in kinds)


def _positions(signature: inspect.Signature) -> range:
    """How many arguments fit by position."""
    parameters = signature.parameters.values()
    if any(each.kind not in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) for each in parameters):
        return range(0)
    return range(sum(each.default is _EMPTY for each in parameters), len(parameters) + 1)


class Registry:
    """Name → task. Registering a name again replaces it."""

    def __init__(self, refuse: Callable[[Task], None] | None = None) -> None:
        """`refuse`: raises if a task may not be registered."""
        self._tasks: dict[str, Task] = {}
        self._refuse = refuse
        self.has_sync_tasks = False
        self.changes = 0
        """How often something new was registered: who has told of it sees by this whether there is more to tell."""

    def register(self, function: TaskFunction, names: Iterable[str] | None = None) -> Task:
        """Known under its own name, or under all of `names`; returns the plan of the first."""
        if names is None:
            known = self._tasks.get(name_of(function))
            if known is not None and known.function is function:
                return known
        plans: list[Task] = []
        for name in names or [name_of(function)]:
            known = self._tasks.get(name)
            plans.append(known if known is not None and known.function is function else plan(function, name))
            if self._refuse is not None:
                self._refuse(plans[-1])
        for each in plans:
            self.changes += self._tasks.get(each.name) is not each
            self._tasks[each.name] = each
            self.has_sync_tasks = self.has_sync_tasks or not each.is_async
        return plans[0]

    def register_collection(self, reference: str) -> None:
        """Everything in `module:collection`. ImportError, AttributeError or ValueError say what is missing."""
        for function in load_collection(reference):
            self.register(function)

    def get(self, name: str) -> Task | None:
        return self._tasks.get(name)

    def __iter__(self) -> Iterator[str]:
        """Of the names as they are now: a task that runs meanwhile, on the loop or in a thread, may register more."""
        return iter(tuple(self._tasks))

    def functions(self) -> dict[str, TaskFunction]:
        return {name: task.function for name, task in tuple(self._tasks.items())}


def load_collection(reference: str) -> Iterable[TaskFunction]:
    """Imports `module:collection`."""
    module_name, colon, attribute = reference.partition(":")
    if not (module_name and colon and attribute):
        raise ValueError(f"expected module:collection, got {reference!r}")
    module = import_module(module_name)
    if not hasattr(module, attribute):
        raise AttributeError(f"the module {module_name!r} has no collection {attribute!r}")
    collection = getattr(module, attribute)
    if callable(collection) or isinstance(collection, str) or not isinstance(collection, Iterable):
        raise ValueError(f"expected {reference} to be a list of functions, found {collection!r}")
    return collection  # pyright: ignore[reportUnknownVariableType]
