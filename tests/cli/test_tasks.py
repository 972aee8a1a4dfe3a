"""`docket tasks`: the small tasks that every worker knows."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest

from docket import clock
from docket.sync import Docket, Execution
from tests.cli.conftest import Answer, Running


def added(client: Docket, answer: tuple[int, str, str], task: str) -> Execution:
    code, told, line = answer
    match = re.fullmatch(rf"Added {task} task '(.+)' to the docket '{client.name}'\n", told)
    assert code == 0 and line == "" and match, (told, line)
    execution = client.get_execution(match[1])
    assert execution is not None
    return execution


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("trace",), "Howdy!"),
        (("trace", "hello"), "hello"),
        (("fail",), "Howdy!"),
        (("fail", "oh"), "oh"),
        (("sleep",), 1.0),
        (("sleep", "0.25"), 0.25),
    ],
)
def test_it_is_added(ask: Answer, client: Docket, arguments: tuple[str, ...], expected: object) -> None:
    execution = added(client, ask("tasks", *arguments), arguments[0])
    assert (execution.function_name, execution.args, execution.state) == (arguments[0], (expected,), "queued")
    client.clear()


@pytest.mark.parametrize("task", ["trace", "fail", "sleep"])
def test_it_can_be_delayed(ask: Answer, client: Docket, task: str) -> None:
    execution = added(client, ask("tasks", task, "--delay", "1h30m"), task)
    assert execution.state == "scheduled"
    assert abs(execution.when - clock.now() - timedelta(minutes=90)) < timedelta(seconds=20)
    client.clear()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("trace", "--delay", "soon"), "'--delay': expected a duration such as 30s"),
        (("trace", "--delay", "9000000d"), "expected --delay to end before the year 10000"),
        (("sleep", "long"), "seconds"),
        (("sleep", "--", "-1"), "seconds"),
        (("trace", "one", "two"), "two"),
    ],
)
def test_nonsense_is_refused(ask: Answer, arguments: tuple[str, ...], sentence: str) -> None:
    code, told, line = ask("tasks", *arguments)
    assert (code, told) == (2, "")
    assert sentence.lower() in line.lower() and "Traceback" not in line


def test_a_worker_runs_them(ask: Answer, client: Docket, start: Callable[..., Running]) -> None:
    traced = added(client, ask("tasks", "trace", "can you hear me?"), "trace")
    failed = added(client, ask("tasks", "fail", "this was meant to fail"), "fail")
    slept = added(client, ask("tasks", "sleep", "0.01", "--delay", "250ms"), "sleep")
    worker = start("worker", "--until-finished", "--logging-format", "plain")
    assert worker.ends() == 0
    assert "can you hear me?" in worker.log and "Exception: this was meant to fail" in worker.log
    for execution, state in ((traced, "completed"), (failed, "failed"), (slept, "completed")):
        execution.sync()
        assert execution.state == state
    assert failed.attempt == 2
