"""`docket strike`, `docket restore`, `docket strikes`: the same rules as `Docket.strike`, in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from docket import clock
from docket.cli.values import parse_value
from docket.sync import Docket
from tests.cli.conftest import Answer, Running


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("trace",), "trace"),
        (("trace", "message"), "trace message == None"),
        (("trace", "message", "==", "x"), "trace message == 'x'"),
        (("trace", "message", "<=", "int:5"), "trace message <= 5"),
        (("trace", "message", "between", "int:1,int:5"), "trace message between (1, 5)"),
        (("*", "message", "==", "a"), "(all tasks) message == 'a'"),
        (("*", "message", "!=", "decimal.Decimal:1"), "(all tasks) message != Decimal('1')"),
    ],
)
def test_striking_and_restoring(ask: Answer, client: Docket, arguments: tuple[str, ...], words: str) -> None:
    assert ask("strike", *arguments) == (0, f"Striking {words}\n", "")
    client.wait_for_strikes_loaded()
    assert [str(rule) for rule in client.strike_list] == [words]
    assert ask("restore", *arguments) == (0, f"Restoring {words}\n", "")
    client.wait_for_strikes_loaded()
    assert list(client.strike_list) == []
    assert ask("restore", *arguments) == (0, f"Nothing to restore: no strike says {words}\n", "")


def test_it_is_heeded(ask: Answer, client: Docket) -> None:
    ask("strike", "trace", "message", "==", "no")
    assert client.add("trace")("no").disposition == "struck"
    assert client.add("trace")("yes").disposition == "scheduled"
    client.clear()


def test_held_work_waits_for_its_restoration(
    ask: Answer, client: Docket, start: Callable[..., Running], shop: Path, evidence: Callable[[], list[str]]
) -> None:
    assert ask("strike", "ship", "--hold") == (0, "Holding ship\n", "")
    client.add("ship", key="waits")(7)
    assert start("worker", "--tasks", "shop:tasks", "--until-finished").ends() == 0
    assert evidence() == []
    assert json.loads(ask("snapshot", "--json")[1])["future"][0]["key"] == "waits"
    assert ask("restore", "ship")[1] == "Restoring ship\n"
    assert start("worker", "--tasks", "shop:tasks", "--until-finished").ends() == 0
    assert evidence() == ["shipped 7"]


def test_they_are_listed(ask: Answer, client: Docket, docket_name: str) -> None:
    assert ask("strikes") == (0, f"Strikes of docket '{docket_name}': none\n", "")
    assert ask("strikes", "--json") == (0, "[]\n", "")
    client.strike("ship", hold=True)
    client.strike(None, "order", ">", 5)
    client.strike("ship", "parts", "==", {"a": 1})
    code, told, _ = ask("strikes")
    assert code == 0
    for word in ("Function", "Since", "ship", "held", "skipped", "order", ">", "5", "{'a': 1}"):
        assert word in told
    rules: list[dict[str, Any]] = json.loads(ask("strikes", "--json")[1])
    for rule in rules:
        assert abs(datetime.fromisoformat(rule.pop("since")) - clock.now()) < timedelta(minutes=1)
    assert rules == [
        {"function": "ship", "parameter": None, "operator": None, "value": None, "type": None, "hold": True},
        {"function": None, "parameter": "order", "operator": ">", "value": 5, "type": "int", "hold": False},
        {
            "function": "ship",
            "parameter": "parts",
            "operator": "==",
            "value": "{'a': 1}",
            "type": "dict",
            "hold": False,
        },
    ]


def test_what_would_move_the_cursor_is_shown_escaped(ask: Answer) -> None:
    code, told, _ = ask("strike", "\x1b[31mred")
    assert code == 0 and "\x1b" not in told
    assert "\x1b" not in ask("strikes")[1]


@pytest.mark.parametrize("command", ["strike", "restore"])
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "expected a function, a parameter or both"),
        (("*", "*"), "expected a function, a parameter or both"),
        (("trace", "x", "~", "5"), "expected an operator of"),
        (("trace", "x", "==", "int:five"), "'five' is no int"),
        (("trace", "x", "==", "nowhere.Thing:5"), "there is no type 'nowhere.Thing'"),
        (("trace", "x", "==", "os.system:true"), "there is no type 'os.system'"),
        (("trace", "x", "between", "int:5"), "expected a pair low,high"),
        (("trace", "*", "==", "5"), "expected a parameter to compare with"),
    ],
)
def test_nonsense_is_refused(ask: Answer, command: str, arguments: tuple[str, ...], sentence: str) -> None:
    code, told, line = ask(command, *arguments)
    assert (code, told) == (2, "")
    assert line.startswith(f"docket: {sentence}") and line.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (None, None),
        ("text", "text"),
        ("12:30", "12:30"),
        ("", ""),
        ("str:a:b", "a:b"),
        ("int:-5", -5),
        ("float:1.5", 1.5),
        ("bool:true", True),
        ("bool:False", False),
        ("decimal.Decimal:1.10", Decimal("1.10")),
        ("datetime.timedelta:90", timedelta(seconds=90)),
        ("datetime.date:2025-01-15", date(2025, 1, 15)),
        ("datetime.datetime:2025-01-15T10:30:00+00:00", datetime.fromisoformat("2025-01-15T10:30:00+00:00")),
    ],
)
def test_how_values_are_written(text: str | None, value: object) -> None:
    parsed = parse_value(text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    "text", ["bool:perhaps", "decimal.Decimal:x", "http://example.com", "uuid.UUID:1", "print:x"]
)
def test_values_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        parse_value(text)
