"""Which calls must not run: rules, and whether one of them strikes a call. Nothing here talks to Redis."""

from __future__ import annotations

import enum
import inspect
import logging
import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from docket import clock, payload
from docket.annotations import Logged
from docket.dependencies.base import Dependency
from docket.registry import Task

if TYPE_CHECKING:
    from docket.execution import ExecutionView

_LOG = logging.getLogger("docket.strikes")

_LONGEST_VALUE = 200


class Operator(enum.StrEnum):
    """How the argument (left) is compared with the value of the rule (right)."""

    EQUAL = "=="
    NOT_EQUAL = "!="
    GREATER_THAN = ">"
    GREATER_THAN_OR_EQUAL = ">="
    LESS_THAN = "<"
    LESS_THAN_OR_EQUAL = "<="
    BETWEEN = "between"
    """The value is a pair; both ends are struck as well."""


_COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    Operator.EQUAL: operator.eq,
    Operator.NOT_EQUAL: operator.ne,
    Operator.GREATER_THAN: operator.gt,
    Operator.GREATER_THAN_OR_EQUAL: operator.ge,
    Operator.LESS_THAN: operator.lt,
    Operator.LESS_THAN_OR_EQUAL: operator.le,
    Operator.BETWEEN: lambda argument, ends: bool(ends[0] <= argument) and bool(argument <= ends[1]),
}


@dataclass(frozen=True, eq=False)
class StrikeInstruction:
    """What it is about: a whole task (no parameter), a parameter of one task, or (no function) of every task.

    Two are about the same if function, parameter, operator and value are; whether work is held does not tell them
    apart. ValueError says what makes no sense.
    """

    function: str | None
    parameter: str | None = None
    operator: Operator | str = Operator.EQUAL
    value: Any = None

    def __post_init__(self) -> None:
        if self.operator not in _COMPARISONS:
            known = ", ".join(Operator)
            raise ValueError(f"expected an operator of {known}, got {self.operator!r}")
        object.__setattr__(self, "operator", Operator(self.operator))
        for what, name in (("function", self.function), ("parameter", self.parameter)):
            if name is not None and (not name or payload.encodable(name) != name):
                raise ValueError(f"expected the name of a {what}, got {name!r}")
        if self.function is None and self.parameter is None:
            raise ValueError(
                "expected a function, a parameter or both: a rule about neither would mean everything"
            )
        has_value = self.value is not None and not isinstance(self.value, Unreadable)
        if self.parameter is None and (self.operator is not Operator.EQUAL or has_value):
            raise ValueError(
                "expected a parameter to compare with the value: a whole task is struck without one"
            )
        if self.operator is Operator.BETWEEN and not _is_pair(self.value):
            raise ValueError(
                f"expected a pair (lowest, highest) for the operator between, got {self.value!r}"
            )

    def is_about_the_same_as(self, other: StrikeInstruction) -> bool:
        return (self.function, self.parameter, self.operator) == (
            other.function,
            other.parameter,
            other.operator,
        ) and (self.parameter is None or _same(self.value, other.value))

    def __str__(self) -> str:
        what = self.function or "(all tasks)"
        if self.parameter is None:
            return what if self.value is None else f"{what} {self.shown_value}"
        return f"{what} {self.parameter} {self.operator} {self.shown_value}"

    @property
    def shown_value(self) -> str:
        return Logged().show(self.value)[:_LONGEST_VALUE]


@dataclass(frozen=True, eq=False)
class Strike(StrikeInstruction):
    """These calls must not run: they are refused and skipped or, with `hold`, wait until the rule is lifted."""

    hold: bool = False
    id: str = field(default="", repr=False)
    """Names the rule in the ledger; begins with the moment, in milliseconds, at which it came into effect there."""

    @property
    def reason(self) -> str:
        """As it stands in the `error` of what was struck."""
        return f"struck: {self}"

    @property
    def since(self) -> datetime | None:
        milliseconds = self.id.partition("-")[0]
        return clock.from_us(int(milliseconds) * 1000) if milliseconds.isdigit() else None

    def strikes(self, argument: Any) -> bool:
        """Raises whatever the comparison raises."""
        return bool(_COMPARISONS[self.operator](argument, self.value))


@dataclass(frozen=True, eq=False)
class Restore(StrikeInstruction):
    """The strike that is about the same is lifted."""


class Unreadable:
    """Stands for the value of a rule that cannot be loaded in this process: nothing can be compared with it."""

    def __init__(self, why: object) -> None:
        self.why = why

    def __repr__(self) -> str:
        return f"<{self.why}>"


@dataclass(frozen=True)
class Rules:
    """All rules in effect at one moment, ready to be asked. `version` is the ledger's name for that moment."""

    strikes: tuple[Strike, ...] = ()
    version: bytes = b""
    whole: Mapping[str, Strike] = field(init=False)
    conditions: Mapping[str, tuple[Strike, ...]] = field(init=False)
    anywhere: tuple[Strike, ...] = field(init=False)

    def __post_init__(self) -> None:
        conditions: defaultdict[str, list[Strike]] = defaultdict(list)
        for each in self.strikes:
            if each.function is not None and each.parameter is not None:
                conditions[each.function].append(each)
        # What cannot be read is no rule of a whole task either: anybody may have written it.
        whole = {
            each.function: each
            for each in self.strikes
            if each.function and each.parameter is None and not isinstance(each.value, Unreadable)
        }
        object.__setattr__(self, "whole", whole)
        object.__setattr__(self, "conditions", {name: tuple(some) for name, some in conditions.items()})
        object.__setattr__(self, "anywhere", tuple(each for each in self.strikes if each.function is None))

    def concern(self, function: str) -> bool:
        """Whether any rule could strike a call of this task: if not, its arguments need not be looked at."""
        return bool(self.anywhere) or function in self.whole or function in self.conditions

    def conditions_on(self, function: str) -> Iterator[Strike]:
        yield from self.conditions.get(function, ())
        yield from self.anywhere


class StrikeList:
    """The rules as this process knows them. Threads may ask while others load: each question sees one state."""

    def __init__(self, door: payload.Door | None = None) -> None:
        """`door`: what the values of rules come through."""
        self.door = door or payload.Door("")
        self.rules = Rules()
        self.is_counted = True
        """Of the partitions of a docket one counts for all."""
        self.counted = 0
        """How many of them the metrics know of."""
        self._warned: set[tuple[str, str]] = set()

    def __iter__(self) -> Iterator[Strike]:
        return iter(self.rules.strikes)

    def __len__(self) -> int:
        return len(self.rules.strikes)

    def load(self, strikes: Iterable[Strike], version: bytes = b"") -> None:
        """These, and no others, are in effect."""
        self.rules = Rules(tuple(strikes), version)

    def update(self, instruction: StrikeInstruction) -> None:
        """The instruction is followed here, in this process only. A rule that is struck again is one rule still."""
        others = [each for each in self if not each.is_about_the_same_as(instruction)]
        self.load([*others, instruction] if isinstance(instruction, Strike) else others, self.rules.version)

    def same_as(self, instruction: StrikeInstruction) -> list[Strike]:
        return [each for each in self if each.is_about_the_same_as(instruction)]

    def is_stricken(self, target: ExecutionView | Mapping[str, Any]) -> bool:
        """Whether a rule strikes this execution; of a mapping of arguments: whether a rule about every task does."""
        if isinstance(target, Mapping):
            return self.match("", (), target) is not None
        name = target.function_name
        if not self.rules.concern(name):
            return False
        return self.match(name, target.args, target.kwargs, target.docket.registry.get(name)) is not None

    def match(
        self,
        function: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        task: Task | None = None,
        rules: Rules | None = None,
    ) -> Strike | None:
        """The rule that strikes this call, one that skips before one that holds. Without the task's signature only
        arguments given by name can be compared; a call that does not fit the signature is not struck by them."""
        rules = self.rules if rules is None else rules
        held_by: Strike | None = None
        for strike in self._struck_by(rules, function, args, kwargs, task):
            if not strike.hold:
                return strike
            held_by = held_by or strike
        return held_by

    def _struck_by(
        self,
        rules: Rules,
        function: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        task: Task | None,
    ) -> Iterator[Strike]:
        whole = rules.whole.get(function)
        if whole is not None:
            yield whole
        arguments: Mapping[str, Any] | None = None
        for strike in rules.conditions_on(function):
            if arguments is None:
                arguments = dict(kwargs) if task is None else _arguments(task, args, kwargs)
            name = strike.parameter or ""
            if name in arguments and self._strikes(strike, arguments[name]):
                yield strike

    def _strikes(self, strike: Strike, argument: Any) -> bool:
        if isinstance(strike.value, Unreadable):
            self._warn_once(strike, argument, "its value cannot be loaded in this process")
            return False
        try:
            return strike.strikes(argument)
        except Exception as error:  # a user's __eq__ and __lt__
            self._warn_once(strike, argument, payload.describe(error))
            return False

    def _warn_once(self, strike: Strike, argument: Any, problem: str) -> None:
        """Once for each rule and type: a busy queue would fill the log."""
        about = (strike.id or str(strike), type(argument).__qualname__)
        if about not in self._warned:
            self._warned.add(about)
            _LOG.warning(
                "the strike %s cannot be compared with a %s (%s): such calls are not struck",
                strike,
                about[1],
                problem,
            )


def _arguments(task: Task, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Every parameter that has a value in this call, defaults included; what is injected has none yet."""
    try:
        bound = task.signature.bind_partial(*args, **kwargs)
    except TypeError:
        return {}
    found: dict[str, Any] = {}
    for parameter in task.signature.parameters.values():
        if parameter.name in bound.arguments:
            value = bound.arguments[parameter.name]
            if parameter.kind is parameter.VAR_KEYWORD:
                found |= value
            else:
                found[parameter.name] = value
        elif parameter.default is not inspect.Parameter.empty and not isinstance(
            parameter.default, Dependency
        ):
            found[parameter.name] = parameter.default
    return found


def _is_pair(value: Any) -> bool:
    return isinstance(value, Unreadable) or (isinstance(value, tuple | list) and len(value) == 2)  # pyright: ignore[reportUnknownArgumentType]


def _same(a: Any, b: Any) -> bool:
    """Equal or, where that cannot be asked (or is never so, as for NaN), stored as the same bytes."""
    try:
        if a is b or bool(a == b):
            return True
        return payload.dump(a) == payload.dump(b)
    except Exception:  # a user's __eq__ and __reduce__
        return False
