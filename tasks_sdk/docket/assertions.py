"""What a test may claim about the work that waits in a docket; a claim that fails shows what does wait.

Waiting is what is queued or scheduled for later, and what stands in line behind a limit: all of it, however much. What
runs, has ended, or was set aside is not. Every claim is awaited, unless the docket is a blocking one.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from docket import clock
from docket.core import Core
from docket.errors import CannotLoad
from docket.execution import ExecutionState, ExecutionView
from docket.registry import TaskFunction, name_of
from docket.store.requests import Operation

if TYPE_CHECKING:
    from docket import sync
    from docket.docket import Docket

_MOST_SHOWN = 20


@dataclass(frozen=True)
class _Claim:
    """Which executions are meant: those for which everything that is given holds."""

    names: frozenset[str]
    args: tuple[Any, ...] | None = None
    kwargs: dict[str, Any] | None = None
    key: str | None = None

    @classmethod
    def about(cls, core: Core[Any], function: TaskFunction | str, *given: Any) -> _Claim:
        """A function is known under the names it was registered with, else under its own."""
        if isinstance(function, str):
            return cls(frozenset((function,)), *given)
        names = frozenset(name for name, known in core.registry.functions().items() if known is function)
        return cls(names or frozenset((name_of(function),)), *given)

    def holds_for(self, execution: ExecutionView) -> bool:
        if execution.function_name not in self.names or self.key not in (None, execution.key):
            return False
        try:
            same_args = self.args is None or execution.args == self.args
            return same_args and all(
                name in execution.kwargs and execution.kwargs[name] == value
                for name, value in (self.kwargs or {}).items()
            )
        except CannotLoad:
            return False

    def __str__(self) -> str:
        given = [f"{name}={value!r}" for name in ("args", "kwargs", "key") if (value := getattr(self, name))]
        given += ["args=()"] if self.args == () else []
        return " with ".join([" or ".join(sorted(self.names)), *([", ".join(given)] if given else [])])


@overload
def assert_task_scheduled(
    docket: Docket,
    function: TaskFunction | str,
    *,
    args: tuple[Any, ...] | None = None,
    kwargs: dict[str, Any] | None = None,
    key: str | None = None,
) -> Coroutine[Any, Any, None]: ...
@overload
def assert_task_scheduled(
    docket: sync.Docket,
    function: TaskFunction | str,
    *,
    args: tuple[Any, ...] | None = None,
    kwargs: dict[str, Any] | None = None,
    key: str | None = None,
) -> None: ...
def assert_task_scheduled(
    docket: Docket | sync.Docket,
    function: TaskFunction | str,
    *,
    args: tuple[Any, ...] | None = None,
    kwargs: dict[str, Any] | None = None,
    key: str | None = None,
) -> Any:
    """A call of this task waits: with exactly these positional arguments, at least these by name, and this key."""

    def check(core: Core[Any]) -> Operation[None]:
        claim = _Claim.about(core, function, args, kwargs, key)
        waiting = yield from _waiting(core)
        if not any(claim.holds_for(execution) for execution in waiting):
            raise AssertionError(f"expected {claim} to be scheduled, but it is not\n{_shown(core, waiting)}")

    return docket.store.perform(check(docket.core))


@overload
def assert_task_not_scheduled(
    docket: Docket,
    function: TaskFunction | str,
    *,
    args: tuple[Any, ...] | None = None,
    kwargs: dict[str, Any] | None = None,
    key: str | None = None,
) -> Coroutine[Any, Any, None]: ...
@overload
def assert_task_not_scheduled(
    docket: sync.Docket,
    function: TaskFunction | str,
    *,
    args: tuple[Any, ...] | None = None,
    kwargs: dict[str, Any] | None = None,
    key: str | None = None,
) -> None: ...
def assert_task_not_scheduled(
    docket: Docket | sync.Docket,
    function: TaskFunction | str,
    *,
    args: tuple[Any, ...] | None = None,
    kwargs: dict[str, Any] | None = None,
    key: str | None = None,
) -> Any:
    """No call waits of which all of this is true; see `assert_task_scheduled`."""

    def check(core: Core[Any]) -> Operation[None]:
        claim = _Claim.about(core, function, args, kwargs, key)
        waiting = yield from _waiting(core)
        found = [execution for execution in waiting if claim.holds_for(execution)]
        if found:
            raise AssertionError(f"expected {claim} not to be scheduled, but it is\n{_shown(core, found)}")

    return docket.store.perform(check(docket.core))


@overload
def assert_task_count(
    docket: Docket, function: TaskFunction | str | None = None, *, count: int
) -> Coroutine[Any, Any, None]: ...
@overload
def assert_task_count(
    docket: sync.Docket, function: TaskFunction | str | None = None, *, count: int
) -> None: ...
def assert_task_count(
    docket: Docket | sync.Docket, function: TaskFunction | str | None = None, *, count: int
) -> Any:
    """So many calls wait, of this task or of all."""

    def check(core: Core[Any]) -> Operation[None]:
        waiting = yield from _waiting(core)
        counted, what = waiting, "tasks"
        if function is not None:
            claim = _Claim.about(core, function)
            counted = [execution for execution in waiting if claim.holds_for(execution)]
            what = f"calls of {claim}"
        if len(counted) != count:
            raise AssertionError(
                f"expected {count} {what} to be scheduled, found {len(counted)}\n{_shown(core, waiting)}"
            )

    return docket.store.perform(check(docket.core))


@overload
def assert_no_tasks(docket: Docket) -> Coroutine[Any, Any, None]: ...
@overload
def assert_no_tasks(docket: sync.Docket) -> None: ...
def assert_no_tasks(docket: Docket | sync.Docket) -> Any:
    """Nothing waits."""
    return assert_task_count(docket, count=0)


def _waiting(core: Core[Any]) -> Operation[list[ExecutionView]]:
    return (yield from core.snapshot()).future


def _shown(core: Core[Any], executions: list[ExecutionView]) -> str:
    """A line for each, as far as anybody would read on."""
    if not executions:
        return f"nothing is scheduled in the docket {core.settings.name!r}"
    lines = [f"scheduled in the docket {core.settings.name!r}:"]
    lines += [f"  {_line(execution)}" for execution in executions[:_MOST_SHOWN]]
    if len(executions) > _MOST_SHOWN:
        lines.append(f"  … and {len(executions) - _MOST_SHOWN} more")
    return "\n".join(lines)


def _line(execution: ExecutionView) -> str:
    try:
        given = [repr(value) for value in execution.args]
        given += [f"{name}={value!r}" for name, value in execution.kwargs.items()]
    except CannotLoad:
        given = ["arguments that cannot be unpickled here"]
    line = f"{execution.function_name}({', '.join(given)}) key={execution.key!r}, {execution.state}"
    if execution.state is ExecutionState.SCHEDULED:
        line += f", due in {execution.when - clock.now()}"
    return line
