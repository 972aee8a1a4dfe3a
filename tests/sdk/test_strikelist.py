"""Which calls a set of rules strikes: every operator, every kind of rule, and what cannot be compared."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docket import CurrentDocket, Docket, Retry, StrikeList
from docket.registry import plan
from docket.strikelist import Operator, Restore, Strike, StrikeInstruction, Unreadable


async def order(customer: str, amount: float = 10, *rest: int, fast: bool = False, **more: Any) -> None: ...


async def injected(x: int, docket: Docket = CurrentDocket(), retry: Retry = Retry(attempts=2)) -> None: ...


TASKS = {function.__name__: plan(function, function.__name__) for function in (order, injected)}


def listed(*rules: Strike) -> StrikeList:
    strikes = StrikeList()
    for rule in rules:
        strikes.update(rule)
    return strikes


def struck(strikes: StrikeList, name: str, *args: Any, **kwargs: Any) -> bool:
    return strikes.match(name, args, kwargs, TASKS.get(name)) is not None


@pytest.mark.parametrize(
    ("operator", "value", "hit", "missed"),
    [
        ("==", 5, [5, 5.0, Decimal(5)], [4, "5", None]),
        ("!=", 5, [4, "5", None], [5]),
        (">", 5, [6, 5.1], [5, 4]),
        (">=", 5, [5, 6], [4]),
        ("<", 5, [4], [5, 6]),
        ("<=", 5, [4, 5], [6]),
        ("between", (3, 5), [3, 4, 5], [2, 6]),
        ("==", None, [None], [0, ""]),
        ("==", [1, {"a": 2}], [[1, {"a": 2}]], [[1], None]),
        ("<=", "low", ["a", "low"], ["lower"]),
    ],
)
def test_an_operator(operator: str, value: Any, hit: list[Any], missed: list[Any]) -> None:
    strikes = listed(Strike("order", "customer", operator, value))
    assert [each for each in hit if not struck(strikes, "order", each)] == []
    assert [each for each in missed if struck(strikes, "order", each)] == []


@pytest.mark.parametrize(
    ("rule", "hit", "missed"),
    [
        (Strike("order"), [("order", "a")], [("injected", 1)]),
        (Strike("order", "amount", ">", 9), [("order", "a")], [("order", "a", 9)]),
        (Strike(None, "amount", ">", 9), [("order", "a"), ("order", "a", 11)], [("injected", 1)]),
        (Strike("order", "fast", "==", False), [("order", "a")], []),
        (Strike("order", "rest", "==", (1, 2)), [("order", "a", 0, 1, 2)], [("order", "a", 0)]),
        (Strike("order", "retry", "!=", None), [], [("order", "a")]),
        (Strike("injected", "docket", "!=", 1), [], [("injected", 1)]),
        (Strike("injected", "retry", "!=", 1), [], [("injected", 1)]),
        (Strike("order", "customer", "!=", 0), [], [("injected", 1, 2, 3, 4, 5)]),
    ],
)
def test_what_a_rule_is_about(rule: Strike, hit: list[Any], missed: list[Any]) -> None:
    strikes = listed(rule)
    assert [call for call in hit if not struck(strikes, *call)] == []
    assert [call for call in missed if struck(strikes, *call)] == []


def test_what_goes_into_keywords_is_known_by_its_name() -> None:
    strikes = listed(Strike(None, "colour", "==", "red"))
    assert struck(strikes, "order", "a", colour="red")
    assert not struck(strikes, "order", "a", colour="blue")


def test_a_call_that_does_not_fit_the_signature_is_struck_only_as_a_whole() -> None:
    assert not struck(listed(Strike("order", "customer", "!=", 0)), "order", customer=1, *("x",))  # noqa: B026
    assert struck(listed(Strike("order")), "order", customer=1, *("x",))  # noqa: B026


def test_without_a_signature_arguments_are_known_by_name_only() -> None:
    strikes = listed(Strike(None, "x", "==", 1))
    assert struck(strikes, "stranger", x=1)
    assert not struck(strikes, "stranger", 1)


def test_rules_are_joined_by_or() -> None:
    strikes = listed(Strike("order", "customer", "==", "12345"), Strike("order", "amount", ">", 1000))
    assert struck(strikes, "order", customer="12345", amount=500)
    assert struck(strikes, "order", customer="12345", amount=2000)
    assert struck(strikes, "order", customer="67890", amount=2000)
    assert not struck(strikes, "order", customer="67890", amount=500)


def test_a_condition_never_touches_the_strike_of_the_whole_task() -> None:
    strikes = listed(Strike("order"), Strike("order", "amount", ">", 1000))
    assert struck(strikes, "order", "a", 1)
    strikes.update(Restore("order", "amount", ">", 1000))
    assert struck(strikes, "order", "a", 1)
    strikes.update(Strike("order", "amount", ">", 1000))
    strikes.update(Restore("order"))
    assert not struck(strikes, "order", "a", 1)
    assert struck(strikes, "order", "a", 2000)


def test_the_same_rule_again_is_one_rule_and_says_anew_whether_it_holds() -> None:
    strikes = listed(Strike("order"), Strike("order", hold=True))
    assert [each.hold for each in strikes] == [True]
    strikes.update(Restore("order"))
    assert len(strikes) == 0


def test_what_skips_comes_before_what_holds() -> None:
    strikes = listed(Strike("order", hold=True), Strike("order", "amount", "==", 1))
    rule = strikes.match("order", ("a", 1), {}, TASKS["order"])
    assert rule is not None and not rule.hold


@pytest.mark.parametrize("value", [[1], {"a": {1}}, float("nan"), (1, [2])])
def test_values_that_cannot_be_hashed_or_are_not_equal_to_themselves_can_be_restored(value: Any) -> None:
    strikes = listed(Strike("order", "customer", "==", value))
    strikes.update(Restore("order", "customer", "==", [*value] if isinstance(value, list) else value))
    assert len(strikes) == 0


class Hostile:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("do not touch me")

    def __hash__(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("rule", "argument"),
    [
        (Strike("order", "customer", ">", 5), "text"),
        (Strike("order", "customer", "between", (1, 5)), None),
        (Strike("order", "customer", "==", 5), Hostile()),
        (Strike("order", "customer", "==", Unreadable("gone")), 5),
    ],
)
def test_what_cannot_be_compared_is_not_struck_and_said_once(
    rule: Strike, argument: Any, caplog: pytest.LogCaptureFixture
) -> None:
    strikes = listed(rule)
    for _ in range(10):
        assert not struck(strikes, "order", argument)
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.WARNING
    assert type(argument).__qualname__ in caplog.text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((None,), "expected a function, a parameter or both"),
        (("order", "x", "~"), "expected an operator of ==, !=, >, >=, <, <=, between, got '~'"),
        (("order", "x", "between", 5), "expected a pair"),
        (("order", "x", "between", (1, 2, 3)), "expected a pair"),
        (("order", None, "==", 5), "expected a parameter to compare with"),
        (("order", None, ">"), "expected a parameter to compare with"),
        (("",), "expected the name of a function, got ''"),
        (("order", "\ud800"), "expected the name of a parameter"),
    ],
)
@pytest.mark.parametrize("kind", [Strike, Restore])
def test_what_makes_no_sense_is_refused(kind: Any, arguments: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match="^" + sentence.replace("(", r"\(")):
        kind(*arguments)


def test_how_a_rule_is_written() -> None:
    assert str(Strike("order")) == "order"
    assert str(Strike("order", "amount", "<=", 5)) == "order amount <= 5"
    assert str(Strike(None, "x", "==", "a")) == "(all tasks) x == 'a'"
    assert len(str(Strike(None, "x", "==", "a" * 10_000))) < 300


def test_tasks_that_no_rule_mentions_are_not_concerned() -> None:
    rules = listed(Strike("order", "customer", "==", 1), Strike("whole")).rules
    assert rules.concern("order") and rules.concern("whole") and not rules.concern("other")
    assert listed(Strike(None, "x")).rules.concern("other")


def test_a_mapping_of_arguments_is_asked_about_rules_for_every_task() -> None:
    strikes = listed(Strike(None, "customer", "==", 1), Strike("order", "customer", "==", 2), Strike("order"))
    assert strikes.is_stricken({"customer": 1})
    assert not strikes.is_stricken({"customer": 2})


# --- a naive model: the rules as a list, each asked by itself --------------------------------------------------

NAMES = st.sampled_from(["f", "g"])
PARAMETERS = st.sampled_from(["x", "y"])
VALUES = st.one_of(st.integers(-2, 2), st.sampled_from(["a", "b"]), st.none())


@st.composite
def instructions(draw: st.DrawFn) -> StrikeInstruction:
    kind = draw(st.sampled_from([Strike, Restore]))
    shape = draw(st.sampled_from(["whole", "one", "any"]))
    if shape == "whole":
        return kind(draw(NAMES))
    operator = draw(st.sampled_from(list(Operator)))
    value = draw(st.tuples(VALUES, VALUES)) if operator == "between" else draw(VALUES)
    return kind(draw(NAMES) if shape == "one" else None, draw(PARAMETERS), operator, value)


def compared(operator: str, left: Any, right: Any) -> bool:
    try:
        match operator:
            case "==":
                return left == right
            case "!=":
                return left != right
            case ">":
                return left > right
            case ">=":
                return left >= right
            case "<":
                return left < right
            case "<=":
                return left <= right
            case _:
                return right[0] <= left and left <= right[1]
    except TypeError:
        return False


def f(x: Any, y: Any = 1) -> None: ...
def g(x: Any = "a", *, y: Any = None) -> None: ...


PLANS = {"f": plan(f, "f"), "g": plan(g, "g")}


@given(st.lists(instructions(), max_size=12), NAMES, st.dictionaries(PARAMETERS, VALUES))
def test_it_strikes_what_the_naive_model_strikes(
    history: list[StrikeInstruction], name: str, kwargs: dict[str, Any]
) -> None:
    strikes = StrikeList()
    model: dict[tuple[Any, ...], None] = {}
    for each in history:
        strikes.update(each)
        identity = (each.function, each.parameter, str(each.operator), each.value)
        if isinstance(each, Strike):
            model[identity] = None
        else:
            model.pop(identity, None)
    defaults = {"f": {"y": 1}, "g": {"x": "a", "y": None}}[name]
    arguments = {**defaults, **kwargs}
    expected = any(
        function in (None, name)
        and (
            parameter is None or (parameter in arguments and compared(operator, arguments[parameter], value))
        )
        for function, parameter, operator, value in model
    )
    assert (strikes.match(name, (), kwargs, PLANS[name]) is not None) == expected
    assert strikes.rules.concern(name) or not expected
