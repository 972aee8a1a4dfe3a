"""`docket clear`: what waits is cancelled, what runs goes on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from docket import clock
from docket.sync import Docket
from tests.cli.conftest import Answer, Running


def test_an_empty_docket(ask: Answer, docket_name: str) -> None:
    assert ask("clear") == (0, f"Cleared 0 tasks from docket '{docket_name}'\n", "")


def test_due_and_scheduled_work_is_cancelled(ask: Answer, client: Docket, docket_name: str) -> None:
    due = client.add("trace")("x")
    parked = client.add("trace", when=clock.now() + timedelta(hours=1))("x")
    assert ask("clear") == (0, f"Cleared 2 tasks from docket '{docket_name}'\n", "")
    for execution in (due, parked):
        execution.sync()
        assert execution.state == "cancelled"


def test_running_work_goes_on(
    ask: Answer,
    client: Docket,
    docket_name: str,
    start: Callable[..., Running],
    tmp_path: Path,
    evidence: Callable[[], list[str]],
) -> None:
    worker = start("worker", "--tasks", "shop:tasks", "--until-finished")
    client.add("hold", key="held")(str(tmp_path / "go"))
    worker.says("hold(...){held}")
    assert ask("clear")[1] == f"Cleared 0 tasks from docket '{docket_name}'\n"
    (tmp_path / "go").touch()
    assert worker.ends() == 0
    assert evidence() == ["began", "ended"]
