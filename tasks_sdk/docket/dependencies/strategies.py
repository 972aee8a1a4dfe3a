"""By what a limit groups executions: those of one group share it."""

from __future__ import annotations

import enum
import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from docket.execution import Execution

_LONGEST = 200
"""Characters of a group's name; what is longer is told apart by its hash."""


class CallOfTask(Protocol):
    """What a group can be named after."""

    @property
    def function_name(self) -> str: ...
    @property
    def parameters(self) -> Mapping[str, Any]: ...


class ConcurrencyStrategy:
    """Subclass it and say in `get_key` which group an execution belongs to; `execution.get_argument(name)` helps.

    It is asked on the worker, once for each attempt, on the event loop: it must be quick, or a coroutine function.
    """

    def get_key(self, execution: Execution) -> str:
        raise NotImplementedError(f"{type(self).__name__} must say in get_key() what it groups by")


class ArgumentStrategy(ConcurrencyStrategy):
    """One whose group follows from the call alone: whoever schedules it can tell, without running anybody's code."""

    family = ""
    """What all its groups have in common: by that name `docket limits set` changes them all."""

    def group(self, call: CallOfTask) -> str:
        raise NotImplementedError

    def get_key(self, execution: Any) -> str:
        return self.group(execution)

    def check(self, task: str, parameters: Iterable[str], where: str) -> None:
        """ValueError for what no call of this task could be grouped by."""


def _shown(value: Any) -> str:
    """As it stands in the name of a key. An enum member is its value: what people see in Redis."""
    text = str(value.value if isinstance(value, enum.Enum) else value)
    if len(text) > _LONGEST:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return f"{text[: _LONGEST - 20]}…{digest}"
    return text.encode("utf-8", "replace").decode()


@dataclass(frozen=True)
class ByArguments(ArgumentStrategy):
    """By the values of these parameters, defaults included."""

    names: tuple[str, ...]

    @property
    def family(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return ":".join(self.names)

    def group(self, call: CallOfTask) -> str:
        values = call.parameters
        for name in self.names:
            if name not in values:
                raise KeyError(f"the call has no argument {name!r} to limit by")
        return ":".join(f"{name}:{_shown(values[name])}" for name in self.names)

    def check(self, task: str, parameters: Iterable[str], where: str) -> None:
        known = list(parameters)
        for name in self.names:
            if name not in known:
                raise ValueError(
                    f"{where} of {task} limits by the argument {name!r}, which it does not have; it has "
                    f"{', '.join(known) or 'none'}"
                )


@dataclass(frozen=True)
class ByTask(ArgumentStrategy):
    """All executions of one task, whatever their arguments."""

    def group(self, call: CallOfTask) -> str:
        return call.function_name


@dataclass(frozen=True)
class Constant(ArgumentStrategy):
    """All executions of all tasks that name it."""

    name: str

    def group(self, call: CallOfTask) -> str:
        return self.name


@dataclass(frozen=True)
class ByFunction(ConcurrencyStrategy):
    """By what a callable makes of the arguments, given by name."""

    function: Callable[[Mapping[str, Any]], Any]

    def get_key(self, execution: Any) -> str:
        return self.function(execution.parameters)


class _LimitBy:
    """The ways to group: `LIMIT_BY.fn_argument("a", "b")`, `.fn_name`, `.constant("name")`, `.fn(callable)`."""

    fn_name: ConcurrencyStrategy = ByTask()

    @staticmethod
    def fn_argument(*names: str) -> ConcurrencyStrategy:
        """By the values of these parameters together."""
        for name in names:
            if not isinstance(name, str) or not name:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ValueError(f"expected names of parameters, got {name!r}")
        if not names:
            raise ValueError("expected the name of at least one parameter to limit by")
        return ByArguments(names)

    @staticmethod
    def constant(name: str) -> ConcurrencyStrategy:
        """One group for whoever names it."""
        if not name:
            raise ValueError("expected a name for the limit, got ''")
        return Constant(name)

    @staticmethod
    def fn(function: Callable[[Mapping[str, Any]], Any]) -> ConcurrencyStrategy:
        """By what `function` returns for the arguments, which it is given as a mapping by name."""
        if not callable(function) or inspect.isclass(function):
            raise TypeError(f"expected a callable that takes the arguments, got {function!r}")
        return ByFunction(function)


LIMIT_BY = _LimitBy()


def strategy_of(limit_by: Any) -> ConcurrencyStrategy | None:
    """From what a user writes: a strategy, the name of a parameter, or several names. None: by what is the default."""
    if limit_by is None or isinstance(limit_by, ConcurrencyStrategy):
        return limit_by
    if isinstance(limit_by, type) and issubclass(limit_by, ConcurrencyStrategy):
        return limit_by()
    if isinstance(limit_by, str):
        return LIMIT_BY.fn_argument(limit_by)
    if isinstance(limit_by, Iterable):
        return LIMIT_BY.fn_argument(*limit_by)  # pyright: ignore[reportUnknownArgumentType]
    raise TypeError(
        f"expected the name of a parameter, a list of names or a ConcurrencyStrategy to limit by, got {limit_by!r}"
    )
