"""Values that functions of the user's make for a task: once for each execution, or once for each worker."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from typing import Any, TypeAlias, TypeVar, cast, overload

from docket.dependencies.base import Dependency, Provider
from docket.dependencies.signature import injected_into

R = TypeVar("R")

DependencyFunction: TypeAlias = (
    Callable[..., AbstractAsyncContextManager[R]]
    | Callable[..., AbstractContextManager[R]]
    | Callable[..., Awaitable[R]]
    | Callable[..., AsyncIterator[R]]
    | Callable[..., Iterator[R]]
    | Callable[..., R]
)
"""The overloads below have the same order, in which the value is looked at, too: an open file is a context manager, and
only then an iterator."""


class FactoryStatement(Provider):
    """A function to be called for the value; its own parameters may be statements in turn.

    What it returns is entered if it is a context manager, else awaited if it is awaitable; a generator function makes a
    context manager. Closed in reverse order of opening, also after a failure.
    """

    def __init__(self, factory: Callable[..., Any], bindings: Mapping[str, Any]) -> None:
        if not callable(factory):
            raise TypeError(f"expected a function, got {factory!r}")
        self.factory = factory
        self.bindings = dict(bindings)
        self.is_async = opens_on_the_loop(factory)
        self.call = _entered(factory)
        self._statements: dict[str, Dependency] | None = None

    @property
    def name(self) -> str:
        return getattr(self.factory, "__name__", type(self.factory).__name__)

    @property
    def statements(self) -> Mapping[str, Dependency]:
        """What the function states about its own parameters, bindings included; read once."""
        if self._statements is None:
            signature = inspect.signature(self.factory)
            self._statements = injected_into(self.factory, signature)
            for name, value in self.bindings.items():
                if name not in signature.parameters:
                    raise ValueError(f"the dependency {self.name} has no parameter {name!r} to bind")
                self._statements.pop(name, None)
                if isinstance(value, Dependency):
                    self._statements[name] = value
        return self._statements

    @property
    def constants(self) -> dict[str, Any]:
        """The bindings that are plain values."""
        return {name: value for name, value in self.bindings.items() if not isinstance(value, Dependency)}

    @property
    def identity(self) -> tuple[Any, ...]:
        """What is opened once: the same function with the same bindings."""
        return (self.factory, *sorted((name, id(value)) for name, value in self.bindings.items()))


class DependsOn(FactoryStatement):
    """Opened once for each execution."""


class SharedByAll(FactoryStatement):
    """Opened once for each worker, when it is first needed; closed when the worker ends."""


def opens_on_the_loop(factory: Callable[..., Any]) -> bool:
    """Whether calling it gives something asynchronous, as far as that can be seen before it is called."""
    inner = inspect.unwrap(factory)
    if inspect.isclass(inner):
        return hasattr(inner, "__aenter__") or hasattr(inner, "__await__")
    cls: type[Any] = inner.__class__
    return any(
        inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each)
        for each in (factory, inner, cls.__call__)
    )


def _entered(factory: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(factory):
        return asynccontextmanager(factory)
    if inspect.isgeneratorfunction(factory):
        return contextmanager(factory)
    return factory


class ArgumentStatement(Provider):
    """An argument of the task's own call, by name; None: of the name that the parameter has."""

    def __init__(self, parameter: str | None, optional: bool) -> None:
        self.parameter = parameter
        self.optional = optional


class SuppliedArgument(ArgumentStatement):
    """Only what the caller has passed."""


NOTHING: Any = object()


class EffectiveArgument(ArgumentStatement):
    """What the task's parameter has in this call: passed, injected, or its default."""

    def __init__(self, parameter: str | None, optional: bool, default: Any) -> None:
        super().__init__(parameter, optional)
        self.default = default


@overload
def Depends(dependency: Callable[..., AbstractAsyncContextManager[R]], **bindings: Any) -> R: ...
@overload
def Depends(dependency: Callable[..., AbstractContextManager[R]], **bindings: Any) -> R: ...
@overload
def Depends(dependency: Callable[..., Awaitable[R]], **bindings: Any) -> R: ...
@overload
def Depends(dependency: Callable[..., AsyncIterator[R]], **bindings: Any) -> R: ...
@overload
def Depends(dependency: Callable[..., Iterator[R]], **bindings: Any) -> R: ...
@overload
def Depends(dependency: Callable[..., R], **bindings: Any) -> R: ...
def Depends(dependency: Callable[..., Any], **bindings: Any) -> Any:
    """The value that the function gives, made once for each execution and closed after it.

    The function may be sync or async, a generator or a context manager of either kind; its own parameters may be
    `Depends`, `Shared`, `TaskArgument`, `CurrentDocket` and so on. `bindings` set parameters of it.
    """
    return DependsOn(dependency, bindings)


@overload
def Shared(factory: Callable[..., AbstractAsyncContextManager[R]]) -> R: ...
@overload
def Shared(factory: Callable[..., AbstractContextManager[R]]) -> R: ...
@overload
def Shared(factory: Callable[..., Awaitable[R]]) -> R: ...
@overload
def Shared(factory: Callable[..., AsyncIterator[R]]) -> R: ...
@overload
def Shared(factory: Callable[..., Iterator[R]]) -> R: ...
@overload
def Shared(factory: Callable[..., R]) -> R: ...
def Shared(factory: Callable[..., Any]) -> Any:
    """Like `Depends`, but made once for each worker, when it is first needed, and closed when the worker ends."""
    return SharedByAll(factory, {})


def TaskArgument(parameter: str | None = None, optional: bool = False) -> Any:
    """In a parameter of a dependency: the argument that the caller of the task has passed under this name (or under the
    parameter's own). KeyError if there is none; None if `optional`."""
    return cast(Any, SuppliedArgument(parameter, optional))


def CallArgument(parameter: str | None = None, optional: bool = False, *, default: Any = NOTHING) -> Any:
    """Like `TaskArgument`, but sees what the task itself will see: injected values and its defaults too."""
    return cast(Any, EffectiveArgument(parameter, optional, default))
