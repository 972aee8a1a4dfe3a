"""`docket limits`: who holds the permits of which limit, who waits, and how many there shall be."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from docket import clock
from docket.sync import Docket
from tests.cli.conftest import Answer, Running

TASKS = """\
import time
from datetime import timedelta
from pathlib import Path
from docket import ConcurrencyLimit, RateLimit

def hold(customer: int, limit: ConcurrencyLimit = ConcurrencyLimit("customer")) -> None:
    while not Path("open").exists():
        time.sleep(0.01)

async def call_api(rate: RateLimit = RateLimit(1, per=timedelta(hours=1))) -> None: ...

tasks = [hold, call_api]
"""


@pytest.fixture
def office(tmp_path: Path) -> str:
    (tmp_path / "office.py").write_text(TASKS)
    return "office:tasks"


@pytest.fixture
def worker(start: Callable[..., Running], office: str, tmp_path: Path):
    """Runs the office until the test is over."""
    running = start("worker", "--tasks", office, "--name", "anna")
    running.says("call_api(")
    yield running
    (tmp_path / "open").touch()
    running.signalled(signal.SIGTERM)


def listed(ask: Answer, *arguments: str) -> list[dict[str, Any]]:
    code, told, line = ask("limits", *arguments, "--json")
    assert (code, line) == (0, "")
    return json.loads(told)


def until(condition: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def test_nobody_is_limited(ask: Answer, docket_name: str) -> None:
    for command in (("limits",), ("limits", "ls")):
        code, told, _ = ask(*command)
        assert (code, told) == (0, f"Limits of docket '{docket_name}': none\n")
        assert ask(*command, "--json")[:2] == (0, "[]\n")


def test_holders_and_who_waits_are_listed(
    ask: Answer, client: Docket, worker: Running, tmp_path: Path
) -> None:
    client.add("hold", key="first")(7)
    until(lambda: listed(ask) and listed(ask)[0]["holders"][0]["worker"])
    for key in ("second", "third"):
        client.add("hold", key=key)(7)
    until(lambda: listed(ask)[0]["waiting"] == 2)
    for arguments in ((), ("ls",)):
        (limit,) = listed(ask, *arguments)
        (holder,) = limit.pop("holders")
        for moment in (limit.pop("waiting_since"), holder.pop("since")):
            assert abs(datetime.fromisoformat(moment) - clock.now()) < timedelta(minutes=1)
        assert limit == {
            "limit": "customer:7",
            "kind": "concurrency",
            "most": 1,
            "set": False,
            "used": 1,
            "waiting": 2,
        }
        assert holder == {"key": "first", "task": "hold", "worker": "anna"}
    code, told, _ = ask("limits", COLUMNS="200")
    assert code == 0
    for word in ("Limit", "Used", "Most", "Waiting", "Held by", "customer:7", "concurrency", "first since"):
        assert word in told
    (tmp_path / "open").touch()
    until(lambda: listed(ask) == [])


def test_a_rate_limit_is_listed_with_those_who_wait_for_it(
    ask: Answer, client: Docket, worker: Running
) -> None:
    client.add("call_api")()
    for _ in range(3):
        client.add("call_api")()
    until(lambda: listed(ask) and listed(ask)[0]["waiting"] == 3)
    (limit,) = listed(ask)
    assert (limit["limit"], limit["kind"], limit["most"], limit["used"]) == ("call_api", "rate", 1, 1)
    assert client.clear() == 3


def test_a_number_is_set_and_taken_back(ask: Answer, client: Docket) -> None:
    assert ask("limits", "set", "customer:7", "3") == (0, "Limit customer:7 admits 3\n", "")
    assert ask("limits", "set", "customer:7", "0") == (0, "Limit customer:7 admits 0 (was 3)\n", "")
    assert json.loads(ask("limits", "set", "customer", "5", "--json")[1]) == {
        "limit": "customer",
        "most": 5,
        "before": None,
    }
    assert ask("limits", "reset", "customer:7") == (
        0,
        "Limit customer:7 admits what the code says (was 0)\n",
        "",
    )
    assert ask("limits", "reset", "customer:7") == (0, "Nothing was set for limit customer:7\n", "")
    assert json.loads(ask("limits", "reset", "customer", "--json")[1]) == {"limit": "customer", "before": 5}


def test_it_is_heeded_at_once(ask: Answer, client: Docket, worker: Running) -> None:
    for _ in range(4):
        client.add("hold")(7)
    until(lambda: listed(ask) and listed(ask)[0]["waiting"] == 3)
    ask("limits", "set", "customer", "3")
    until(lambda: listed(ask)[0]["used"] == 3)
    (limit,) = listed(ask)
    assert (limit["most"], limit["set"], limit["waiting"]) == (3, True, 1)
    assert "3 (set)" in ask("limits", COLUMNS="200")[1]
    ask("limits", "reset", "customer")


@pytest.mark.parametrize("number", ["-1", "many", "1.5"])
def test_what_is_no_number_is_a_mistake_of_usage(ask: Answer, number: str) -> None:
    code, told, line = ask("limits", "set", "--", "customer", number)
    assert (code, told) == (2, "") and "Invalid value for 'N'" in line


def test_an_empty_name_is_a_mistake_of_usage(ask: Answer) -> None:
    for arguments in (("set", "", "1"), ("reset", "")):
        code, told, line = ask("limits", *arguments)
        assert (code, told) == (2, "")
        assert "expected the name of a limit, got ''" in line


def test_help_explains(ask: Answer) -> None:
    assert "pauses it" in ask("limits", "set", "--help")[1]
    assert all(word in ask("limits", "--help")[1] for word in ("ls", "set", "reset"))
