"""Workers that have served for long enough are replaced while the work goes on."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.fleet import Evidence, Supervisor, eventually, gone

Supervise = Callable[..., Supervisor]


@pytest.mark.timeout(90)
@pytest.mark.parametrize("preload", ["--preload", "--no-preload"])
def test_recycling_by_tasks_loses_nothing_and_runs_nothing_twice(
    preload: str, docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "2", "--concurrency", "4", "--max-tasks", "20", preload)
    keys: list[str] = []

    def work_on() -> bool:
        """Until others have taken over, however long they take to come up."""
        for _ in range(100):
            keys.append(f"many-{len(keys)}")
            docket.add((does.wait, does.wait_sync)[len(keys) % 2], key=keys[-1])(0.02)
        eventually(lambda: len(evidence.lines("ended")) >= len(keys))
        return len(keys) >= 300 and len({line["pid"] for line in evidence.lines("began")}) > 2

    eventually(work_on, "another worker has taken over", 60)
    assert all(evidence.ran_once(key) for key in keys)
    assert supervisor.stop() == 0
    assert "handed over" not in supervisor.log()


def test_a_worker_over_max_tasks_goes_on_claiming_until_its_replacement_is_ready(
    docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise(
        *("--processes", "1", "--concurrency", "1", "--no-preload"),
        *("--max-tasks", "3", "--recycle-jitter", "0"),
    )
    for number in range(60):
        docket.add(does.wait, key=f"many-{number}")(0.05)
    first = evidence.running_in("many-0")
    supervisor.logged(f"{first} exited with status 0")
    assert sum(line["pid"] == first for line in evidence.lines("began")) > 3
    log = supervisor.log()
    assert re.search(rf"recycling worker \[0\] {first}: \d+ tasks, of 3", log)
    relief = re.findall(r"worker \[0\] (\d+) is ready", log)[1]
    # The order of the lines is the order of the events.
    assert log.index(f"{relief} is ready") < log.index(f"{first} exited with status 0")
    eventually(lambda: len(evidence.lines("ended")) == 60)
    assert all(evidence.ran_once(f"many-{number}") for number in range(60))
    assert supervisor.stop() == 0


@pytest.mark.timeout(60)
def test_a_worker_over_max_memory_is_replaced_and_what_it_runs_is_finished(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "2", "--max-memory", "160M")
    go = tmp_path / "go"
    running = docket.add(does.wait_for, key="running")(str(go))
    evidence.running_in("running")
    docket.add(does.hold_memory, key="hog")(200)
    hog = evidence.running_in("hog")
    others = set(supervisor.titled("worker")) - {hog}
    eventually(lambda: re.search(rf"recycling worker \[.\] {hog}: \d+(\.\d)?M of private", supervisor.log()))
    eventually(lambda: len(set(supervisor.titled("worker")) - {hog} - others) == 1, "its replacement")
    go.touch()
    assert running.get_result()
    eventually(lambda: gone(hog), "the worker that holds the memory is replaced")
    assert others <= set(supervisor.titled("worker")), "the other one has not been touched"
    assert evidence.ran_once("running") and supervisor.log().count("recycling") == 1
    assert supervisor.stop() == 0


def test_a_worker_is_replaced_at_its_age_without_using_up_restarts(
    docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "1", "--max-age", "500ms", "--max-restarts", "0")
    eventually(lambda: supervisor.log().count("recycling worker [0]") >= 4)
    docket.add(does.note, key="after")().get_result()
    (worker,) = supervisor.titled("worker")[:1]
    assert worker and "giving up" not in supervisor.log()
    assert supervisor.stop() == 0
