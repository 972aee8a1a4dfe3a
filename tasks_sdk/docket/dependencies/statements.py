"""What a task states, checked: for whoever registers it, not for the worker that would run it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from docket.dependencies.base import Dependency
from docket.dependencies.functional import (
    NOTHING,
    ArgumentStatement,
    EffectiveArgument,
    FactoryStatement,
    SharedByAll,
    SuppliedArgument,
)
from docket.dependencies.limits import Admission, Limit
from docket.dependencies.perpetual import Perpetual
from docket.dependencies.strategies import ArgumentStrategy
from docket.errors import CycleError


def check(
    name: str,
    signature: inspect.Signature,
    injected: Mapping[str, Dependency],
    wrapped: Iterable[tuple[str, Dependency]] = (),
) -> None:
    """ValueError, TypeError or CycleError, naming the parameters, for what could never work."""
    refuse_a_second_single(name, (*injected.items(), *wrapped))
    for parameter, statement in injected.items():
        if isinstance(statement, SuppliedArgument) and (statement.parameter or parameter) == parameter:
            raise ValueError(
                f"the parameter {parameter!r} of {name} is a TaskArgument of its own name: the task has its arguments "
                "already; name another one, or put it into a dependency of the task"
            )
        _check_tree(name, parameter, statement, signature, ())
    _refuse_cycles(name, injected)
    _refuse_arguments_of_automatic_tasks(name, signature, injected)


def check_limits(
    name: str, signature: inspect.Signature, injected: Mapping[str, Dependency], limits: Iterable[Limit]
) -> None:
    """ValueError for limits by arguments that the task does not have, and for a second one of a kind that is single."""
    parameters = [each for each in signature.parameters.values() if each.name not in injected]
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
    limits = list(limits)
    for limit in limits:
        strategy = limit.statement.strategy_at(limit.annotated)
        if isinstance(strategy, ArgumentStrategy) and not takes_any:
            where = f"{type(limit.statement).__name__} (parameter {limit.parameter!r})"
            strategy.check(name, (each.name for each in parameters), where)
    single = [limit for limit in limits if limit.statement.single]
    if len(single) > 1:
        kind, (first, second, *_) = type(single[0].statement).__name__, single
        raise ValueError(
            f"Only one {kind} dependency is allowed per task; {name} has {first.parameter!r} and {second.parameter!r}"
        )


def _refuse_arguments_of_automatic_tasks(
    name: str, signature: inspect.Signature, injected: Mapping[str, Dependency]
) -> None:
    if not any(isinstance(each, Perpetual) and each.automatic for each in injected.values()):
        return
    for parameter in signature.parameters.values():
        optional = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if not optional and parameter.default is parameter.empty and parameter.name not in injected:
            raise ValueError(
                f"{name} starts automatically, so nobody can pass its argument {parameter.name!r}: give it a default"
            )


def refuse_a_second_single(name: str, statements: Iterable[tuple[str, Dependency]]) -> None:
    """ValueError if two of these stand for the same thing, of which a task can have only one."""
    first: dict[type[Dependency], str] = {}
    for parameter, statement in statements:
        for kind in type(statement).__mro__:
            if not (issubclass(kind, Dependency) and vars(kind).get("single")):
                continue
            if kind in first:
                raise ValueError(
                    f"Only one {kind.__name__} dependency is allowed per task; {name} has "
                    f"{first[kind]!r} and {parameter!r}"
                )
            first[kind] = parameter


def _check_tree(
    task: str, parameter: str, statement: Dependency, signature: inspect.Signature, above: tuple[Any, ...]
) -> None:
    if isinstance(statement, ArgumentStatement):
        wanted = statement.parameter or parameter
        takes_any = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
        has_default = isinstance(statement, EffectiveArgument) and statement.default is not NOTHING
        if not (statement.optional or has_default or takes_any or wanted in signature.parameters):
            who = f"a dependency of {task}" if above else f"the parameter {parameter!r} of {task}"
            raise ValueError(f"{who} asks for the argument {wanted!r}, which {task} does not have")
        return
    if isinstance(statement, Admission) and above:
        raise ValueError(
            f"{type(statement).__name__} (parameter {parameter!r}) of a dependency of {task} would limit nothing: "
            "state it in the task"
        )
    if not isinstance(statement, FactoryStatement):
        return
    if statement.identity in above:
        raise CycleError(
            f"the dependency {statement.name} of {task} (parameter {parameter!r}) depends on itself"
        )
    statements = statement.statements
    _refuse_unfilled(statement, statements)
    for inner, each in statements.items():
        if isinstance(statement, SharedByAll) and isinstance(each, ArgumentStatement):
            raise ValueError(
                f"{statement.name} is shared by all executions, so its parameter {inner!r} cannot be an argument of one"
            )
        _check_tree(task, inner, each, signature, (*above, statement.identity))


def _refuse_unfilled(statement: FactoryStatement, statements: Mapping[str, Dependency]) -> None:
    for parameter in inspect.signature(statement.factory).parameters.values():
        optional = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        given = parameter.name in statements or parameter.name in statement.bindings
        if not (optional or given) and parameter.default is parameter.empty:
            raise ValueError(
                f"nothing would fill the parameter {parameter.name!r} of the dependency {statement.name}: give it a "
                "default, or a dependency such as TaskArgument()"
            )


def _refuse_cycles(name: str, injected: Mapping[str, Dependency]) -> None:
    """CallArgument makes one injected parameter wait for another; in a ring they would wait for ever."""
    waits = {
        parameter: set(_awaited(statement, parameter)) & injected.keys()
        for parameter, statement in injected.items()
    }
    done: set[str] = set()

    def visit(parameter: str, path: tuple[str, ...]) -> None:
        if parameter in path:
            ring = " → ".join((*path[path.index(parameter) :], parameter))
            raise CycleError(f"dependencies of {name} wait for each other: {ring}")
        if parameter not in done:
            for other in sorted(waits[parameter]):
                visit(other, (*path, parameter))
            done.add(parameter)

    for parameter in injected:
        visit(parameter, ())


def _awaited(statement: Dependency, parameter: str) -> Iterator[str]:
    """The task's parameters whose effective value this statement asks for."""
    if isinstance(statement, EffectiveArgument):
        yield statement.parameter or parameter
    elif isinstance(statement, FactoryStatement):
        for inner, each in statement.statements.items():
            yield from _awaited(each, inner)
