"""`docket snapshot`: everything that waits, runs or was set aside; no argument is unpickled for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from docket import clock
from docket.sync import Docket
from tests.cli.conftest import Answer, Running, variables

_OPENED: list[int] = []


class Trap:
    """Unpickling it leaves a trace."""

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return _OPENED.append, (1,)


def data(ask: Answer) -> dict[str, object]:
    code, told, line = ask("snapshot", "--json")
    assert (code, line) == (0, "")
    return json.loads(told)


def test_an_empty_docket(ask: Answer, docket_name: str) -> None:
    code, told, _ = ask("snapshot")
    assert code == 0
    assert told.startswith(f"Docket: '{docket_name}' as of ")
    assert "0 due, 0 scheduled, 0 running, 0 dead, 0 workers" in told


def test_what_waits_is_shown_in_the_order_in_which_it_is_due(ask: Answer, client: Docket) -> None:
    client.add("trace", key="later", when=clock.now() + timedelta(hours=2))("x")
    client.add("trace", key="sooner", when=clock.now() + timedelta(hours=1))("x")
    client.add("trace", key="at-once")("x")
    _, told, _ = ask("snapshot")
    assert "1 due, 2 scheduled, 0 running, 0 dead, 0 workers" in told
    for column in ("When", "Function", "Key", "State", "Worker", "Started"):
        assert column in told
    assert told.index("at-once") < told.index("sooner") < told.index("later")
    assert "(in 59m" in told or "(in 1h)" in told
    assert data(ask)["counts"] == {"due": 1, "scheduled": 2, "running": 0, "dead": 0, "workers": 0}


def test_tasks_that_nobody_here_knows_are_shown_and_their_arguments_are_not_opened(
    ask: Answer, client: Docket
) -> None:
    client.add("a_task_of_somebody_else", key="strange")(Trap())
    code, told, _ = ask("snapshot")
    assert code == 0
    assert "a_task_of_somebody_else" in told and "strange" in told
    assert data(ask)["future"][0]["function"] == "a_task_of_somebody_else"  # type: ignore[index]
    assert _OPENED == []


@pytest.mark.parametrize("key", ["[red]x[/red]", "[/]", "a" * 300, "\x1b[31mred\nline", "ключ", "a:b c"])
def test_a_key_is_shown_as_it_is(ask: Answer, client: Docket, key: str) -> None:
    client.add("trace", key=key)("x")
    code, told, _ = ask("snapshot")
    assert code == 0
    assert key.replace("\x1b", "\\x1b").replace("\n", "\\n") in told
    assert "\x1b" not in told
    assert data(ask)["future"][0]["key"] == key  # type: ignore[index]


def test_what_runs_is_shown_with_its_worker(
    ask: Answer, client: Docket, start: Callable[..., Running], shop: Path, tmp_path: Path
) -> None:
    worker = start("worker", "--tasks", "shop:tasks", "--name", "anna", "--until-finished")
    client.add("hold", key="held")(str(tmp_path / "go"))
    worker.says("hold(...){held}")
    _, told, _ = ask("snapshot")
    assert "1 running" in told and "1 workers" in told
    assert "held" in told and "running" in told and "anna" in told
    (running,) = data(ask)["running"]  # type: ignore[misc]
    assert (running["key"], running["worker"], running["state"]) == ("held", "anna", "running")
    assert running["started_at"] and running["completed_at"] is None
    assert data(ask)["workers"] == ["anna"]
    (tmp_path / "go").touch()
    assert worker.ends() == 0


def test_of_a_large_docket_what_comes_first_is_shown_and_the_rest_is_counted(
    ask: Answer, client: Docket
) -> None:
    client.add_many([client.call("trace", key=f"due{i}")("x") for i in range(4)])
    hour = timedelta(hours=1)
    client.add_many(
        [client.call("trace", clock.now() + hour * (i + 1), f"later{i}")("x") for i in range(1200)]
    )
    _, told, _ = ask("snapshot", "--limit", "6")
    assert "4 due, 1200 scheduled, 0 running, 0 dead, 0 workers" in told
    assert "1198 more are not shown" in told
    assert all(f"due{i}" in told for i in range(4)) and "later1" in told and "later2" not in told
    code, told, _ = ask("snapshot", "--json", "--limit", "6")
    found = json.loads(told)
    assert (code, found["omitted"], len(found["future"])) == (0, 1198, 6)
    assert found["counts"]["scheduled"] == found["tasks"][0]["scheduled"] == 1200
    assert found["tasks"][0]["total"] == 1204
    assert json.loads(ask("snapshot", "--json", "--limit", "0")[1])["omitted"] == 0
    assert len(json.loads(ask("snapshot", "--json")[1])["future"]) == 1000
    assert "1204" in ask("snapshot", "--stats", "--limit", "6")[1]
    assert ask("snapshot", "--limit", "-1")[::2] == (2, "docket: expected --limit to be at least 0, got -1\n")
    client.clear()


def test_dead_letters_are_shown_with_their_cause(
    ask: Answer, client: Docket, start: Callable[..., Running]
) -> None:
    client.add("nobody_knows_me", key="lost")()
    assert start("worker", "--until-finished").ends() == 0
    _, told, _ = ask("snapshot")
    assert "1 dead" in told
    assert "Dead letters" in told and "nobody_knows_me" in told and "lost" in told
    (dead,) = data(ask)["dead"]  # type: ignore[misc]
    assert dead["key"] == "lost" and dead["error"] in told
    client.purge_dead()


def test_a_reader_that_goes_away_is_no_error(client: Docket, redis_url: str, docket_name: str) -> None:
    client.add_many([client.call("trace", key=f"k{i}")("x") for i in range(2000)])
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "docket", "snapshot", "--url", redis_url, "--docket", docket_name],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        env=variables(),
        timeout=60,
    )
    os.close(writing)
    assert "Traceback" not in done.stderr
    client.clear()


def test_statistics_count_what_each_task_has_to_do(
    ask: Answer, client: Docket, start: Callable[..., Running], shop: Path, tmp_path: Path
) -> None:
    worker = start("worker", "--tasks", "shop:tasks", "--concurrency", "1", "--until-finished")
    client.add("hold", key="held")(str(tmp_path / "go"))
    worker.says("hold(...){held}")
    long_ago = clock.now() - timedelta(hours=2)
    client.add("trace", when=long_ago, key="oldest")("x")
    client.add("trace", when=clock.now() - timedelta(hours=1), key="old")("x")
    client.add("trace", when=clock.now() + timedelta(hours=1), key="later")("x")

    trace, hold = data(ask)["tasks"]  # type: ignore[misc]
    counted = ("total", "running", "queued", "scheduled", "overdue", "dead")
    assert [trace[name] for name in counted] == [3, 0, 2, 1, 2, 0]
    assert [hold[name] for name in counted] == [1, 1, 0, 0, 0, 0]
    assert trace["oldest_overdue"] == trace["oldest_queued"] == long_ago.isoformat()
    assert 7200 <= trace["oldest_overdue_s"] < 7300
    assert hold["oldest_overdue"] is None and hold["oldest_overdue_s"] is None

    assert "Oldest Overdue" not in ask("snapshot")[1]
    told = ask("snapshot", "--stats")[1]
    for column in ("Function", "Total", "Running", "Queued", "Scheduled", "Overdue", "Oldest Queued"):
        assert column in told
    assert "(2h ago)" in told or "(2h1s ago)" in told
    client.cancel("later")
    (tmp_path / "go").touch()
    assert worker.ends() == 0


def test_what_nobody_has_promoted_is_overdue_too(ask: Answer, client: Docket) -> None:
    client.add("trace", when=clock.now() + timedelta(seconds=1), key="k")("x")
    while clock.now() < client.snapshot().future[0].when:
        time.sleep(0.02)
    (trace,) = data(ask)["tasks"]  # type: ignore[misc]
    assert (trace["scheduled"], trace["queued"], trace["overdue"]) == (1, 0, 1)
    client.clear()


def test_work_without_a_function_can_be_pointed_out(
    ask: Answer, client: Docket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "known.py").write_text("async def ship(): ...\ntasks = [ship]\n")
    monkeypatch.chdir(tmp_path)
    client.add("ship")()
    client.add("trace")("x")
    client.add("renamed_since")()
    assert "unknown_tasks" not in data(ask)
    code, told, _ = ask("snapshot", "--tasks", "known:tasks")
    assert code == 0
    assert "Not among the given tasks: renamed_since\n" in told
    assert json.loads(ask("snapshot", "--tasks", "known:tasks", "--json")[1])["unknown_tasks"] == [
        "renamed_since"
    ]
    client.clear()
