"""`docket workers`: who is alive, and what it can run."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Answer, Running


@pytest.mark.parametrize("command", [("workers",), ("workers", "ls"), ("workers", "for-task", "ship")])
def test_nobody_is_there(ask: Answer, command: tuple[str, ...]) -> None:
    code, told, _ = ask(*command)
    assert code == 0 and told.endswith(": none\n")
    assert ask(*command, "--json") == (0, "[]\n", "")


def test_those_who_are_alive_are_listed(ask: Answer, start: Callable[..., Running], shop: Path) -> None:
    anna = start("worker", "--name", "anna", "--tasks", "shop:tasks", "--concurrency", "7")
    bert = start("worker", "--name", "bert")
    for worker in (anna, bert):
        worker.says("sleep(seconds: float, ...)")
    while len(json.loads(ask("workers", "--json")[1])) < 2:
        assert anna.process.poll() is None and bert.process.poll() is None

    for command in (("workers",), ("workers", "ls")):
        code, told, _ = ask(*command)
        assert code == 0
        assert all(word in told for word in ("Name", "Last Seen", "Tasks", "anna", "bert", "resize"))
    first, second = json.loads(ask("workers", "ls", "--json")[1])
    assert (first["name"], first["concurrency"], second["name"]) == ("anna", 7, "bert")
    assert {"ship", "resize", "hold", "trace"} <= set(first["tasks"])

    assert "bert" not in ask("workers", "for-task", "ship")[1]
    assert [worker["name"] for worker in json.loads(ask("workers", "for-task", "trace", "--json")[1])] == [
        "anna",
        "bert",
    ]
    for worker in (anna, bert):
        assert worker.signalled(signal.SIGTERM) == 0
    assert ask("workers", "--json") == (0, "[]\n", "")


@pytest.mark.parametrize("option", [("--json",), ("--url", "redis://elsewhere"), ("--docket", "other")])
def test_an_option_before_the_command_is_refused_rather_than_dropped(
    ask: Answer, option: tuple[str, ...]
) -> None:
    code, told, line = ask("workers", *option, "ls")
    assert (code, told) == (2, "")
    assert line == f"docket: expected {option[0]} behind ls, not before it\n"
