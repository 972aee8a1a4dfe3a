"""`docket runs show`: everything about one execution; what is pickled stays closed unless asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from docket import clock
from docket.sync import Docket
from tests.cli.conftest import Answer, Running

_OPENED: list[int] = []


class Trap:
    """Unpickling it leaves a trace."""

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return _OPENED.append, (1,)


TASKS = """\
from typing import Annotated
from docket import Docket, Logged, Progress

async def ship(order: Annotated[str, Logged], secret: str, fast: Annotated[bool, Logged] = False):
    return f"shipped {order}"

async def refuse(order):
    raise ValueError(f"there is no order {order}")

async def leave():
    raise SystemExit(3)

tasks = [ship, refuse, leave]
"""


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "warehouse.py").write_text(TASKS)
    monkeypatch.chdir(tmp_path)
    return "warehouse:tasks"


def data(ask: Answer, *arguments: str) -> dict[str, Any]:
    code, told, line = ask("runs", "show", *arguments, "--json")
    assert (code, line) == (0, "")
    return json.loads(told)


def test_what_waits_is_shown_without_opening_its_arguments(ask: Answer, client: Docket) -> None:
    _OPENED.clear()
    client.add("somebody_elses", when=clock.now() + timedelta(hours=1), key="k")(Trap(), "secret")
    code, told, _ = ask("runs", "show", "k")
    assert code == 0
    assert "somebody_elses" in told and "scheduled" in told and "bytes, not opened" in told
    assert "secret" not in told
    shown = data(ask, "k")
    assert (shown["key"], shown["function"], shown["state"]) == ("k", "somebody_elses", "scheduled")
    assert shown["attempt"] == 1 and shown["worker"] is None and shown["result"] is None
    assert shown["expires_at"] is None and shown["execution_ttl_s"] == 900
    assert shown["arguments"]["bytes"] > 10
    assert _OPENED == []


def test_what_has_ended_is_shown_with_its_worker_and_its_result(
    ask: Answer, client: Docket, start: Callable[..., Running], warehouse: str
) -> None:
    client.add("ship", key="good")("o1", secret="hush", fast=True)
    client.add("refuse", key="bad")("o2")
    client.add("leave", key="exit")()
    assert start("worker", "--tasks", warehouse, "--name", "anna", "--until-finished").ends() == 0

    shown = data(ask, "good")
    assert (shown["state"], shown["worker"]) == ("completed", "anna")
    assert shown["duration_s"] >= 0 and shown["started_at"] < shown["completed_at"] < shown["expires_at"]
    assert shown["result"] == {"kind": "value", "bytes": shown["result"]["bytes"]}
    assert shown["result"]["bytes"] > 5

    assert data(ask, "good", "--result")["result"]["value"] == "'shipped o1'"
    assert data(ask, "bad", "--result")["result"]["raised"] == "ValueError: there is no order o2"
    assert data(ask, "exit", "--result")["result"]["raised"] == "SystemExit: 3"
    assert "ValueError: there is no order o2" in ask("runs", "show", "bad")[1]

    _, told, _ = ask("runs", "show", "good")
    for words in ("State:", "completed", "Worker:", "anna", "Duration:", "Kept until:", "(in 1"):
        assert words in told
    assert "Crashes" not in told and "shipped" not in told
    assert "'shipped o1'" in ask("runs", "show", "good", "--result")[1]


def test_arguments_are_shown_as_they_may_be_logged(ask: Answer, client: Docket, warehouse: str) -> None:
    client.add("ship", key="k")("o1", secret="hush", fast=True)
    expected = "ship('o1', secret=..., fast=True){k}"
    assert data(ask, "k", "--arguments", "--tasks", warehouse)["arguments"]["call"] == expected
    assert expected in ask("runs", "show", "k", "--arguments", "--tasks", warehouse)[1]
    # Who does not know the annotations shows nothing of the values.
    assert data(ask, "k", "--arguments")["arguments"]["call"] == "ship(..., secret=..., fast=...){k}"
    client.clear()


def test_arguments_that_cannot_be_opened_are_told(ask: Answer, client: Docket) -> None:
    execution = client.add("ship", key="k")(1)
    with client.redis() as redis:
        redis.hset(client.keys.runs(execution.key), "body", b"p not a pickle")
    assert "cannot be unpickled here" in data(ask, "k", "--arguments")["arguments"]["call"]
    client.clear()


def test_a_result_that_has_not_come_is_told(ask: Answer, client: Docket) -> None:
    client.add("trace", key="k")("x")
    assert data(ask, "k", "--result")["result"] == {"unavailable": "it is queued"}
    client.cancel("k")
    assert "was cancelled" in data(ask, "k", "--result")["result"]["unavailable"]


def test_progress_attempt_and_what_holds_it_are_shown(ask: Answer, client: Docket) -> None:
    execution = client.add("trace", key="k")("x")
    with client.redis() as redis:
        redis.hset(client.keys.runs(execution.key), mapping={"attempt": 2, "crashes": 1, "held": "7-0"})
        redis.hset(
            client.keys.progress(execution.key),
            mapping={"current": 3, "total": 9, "message": "half", "updated_at": clock.now().isoformat()},
        )
    shown = data(ask, "k")
    assert (shown["attempt"], shown["crashes"], shown["held_by"]) == (2, 1, "7-0")
    assert (shown["progress"]["current"], shown["progress"]["total"]) == (3, 9)
    told = ask("runs", "show", "k")[1]
    assert "3/9 half" in told and "held by the strike 7-0" in told
    with client.redis() as redis:
        redis.delete(client.keys.progress(execution.key))
        redis.hdel(client.keys.runs(execution.key), "held")
    client.clear()


def test_a_dead_letter_says_that_it_is_one(
    ask: Answer, client: Docket, start: Callable[..., Running]
) -> None:
    client.add("nobody_knows_me", key="lost")()
    assert start("worker", "--until-finished").ends() == 0
    assert data(ask, "lost")["dead"] is True
    assert "set aside as a dead letter" in ask("runs", "show", "lost")[1]
    assert "knows the task" in data(ask, "lost", "--result")["result"]["unavailable"]
    client.purge_dead()


def test_a_module_that_cannot_be_imported_is_exit_3(ask: Answer, client: Docket) -> None:
    client.add("trace", key="k")("x")
    code, told, line = ask("runs", "show", "k", "--arguments", "--tasks", "no_such_module:tasks")
    assert (code, told) == (3, "")
    assert "could not import no_such_module" in line
    client.clear()


def test_nothing_of_a_key_moves_the_cursor(ask: Answer, client: Docket) -> None:
    client.add("trace", key="\x1b[31mred\n")("x")
    _, told, _ = ask("runs", "show", "\x1b[31mred\n")
    assert "\\x1b[31mred\\n" in told and "\x1b" not in told
    client.clear()
