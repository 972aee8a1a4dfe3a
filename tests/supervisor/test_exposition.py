"""What Prometheus is shown: read back with its own parser."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from docket_supervisor.board import Board
from docket_supervisor.exposition import Application, Runs, Service, expose
from tests.supervisor.service import source_path

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(board: Board, accept: str = "") -> Samples:
    body, _ = expose([Runs("shop", board.tallies.rows()), Service("shop", board)], accept)
    found: Samples = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name != "docket_name"}
            assert sample.labels["docket_name"] == "shop"
            found[sample.name, tuple(labels.items())] = sample.value
    return found


def test_runs_are_shown_by_task_over_all_seats() -> None:
    board = Board(3, 1)
    for seat, task in ((0, "ship"), (2, "ship"), (2, "pay")):
        writer = board.writer(seat)
        writer.started(task, seat == 2, 0.002)
        writer.finished(task, "completed", False, 0.2)
    writer.started("pay", False, 7.0)
    writer.finished("pay", "retry", True, 1000.0)
    found = samples(board)
    for name, ship, pay in (
        ("docket_tasks_started_total", 2, 2),
        ("docket_tasks_redelivered_total", 1, 1),
        ("docket_tasks_completed_total", 2, 2),
        ("docket_tasks_succeeded_total", 2, 1),
        ("docket_tasks_failed_total", 0, 1),
        ("docket_tasks_retried_total", 0, 1),
        ("docket_task_duration_seconds_count", 2, 2),
        ("docket_task_punctuality_seconds_count", 2, 2),
    ):
        assert found[name, (("docket_task", "ship"),)] == ship, name
        assert found[name, (("docket_task", "pay"),)] == pay, name
    assert found["docket_task_duration_seconds_sum", (("docket_task", "pay"),)] == pytest.approx(1000.2)
    buckets = {
        dict(labels)["le"]: value
        for (name, labels), value in found.items()
        if name == "docket_task_duration_seconds_bucket" and ("docket_task", "pay") in labels
    }
    assert (buckets["0.1"], buckets["0.25"], buckets["300.0"], buckets["+Inf"]) == (0, 1, 1, 2)


def test_processes_are_counted_by_state_and_those_beside_the_slots_apart() -> None:
    board = Board(5, 1)
    for seat, phase in enumerate(("working", "working", "draining", "working", "parked")):
        board.seats[seat].taken(100 + seat)
        board.writer(seat).phase(phase)
    for slot in range(3):
        board.bulletin.slots[slot].seat = slot
    found = samples(board)
    states = {
        labels[0][1]: value for (name, labels), value in found.items() if name == "docket_worker_processes"
    }
    assert states == {"starting": 0, "working": 2, "quiet": 0, "draining": 1, "spare": 1, "beside": 1}


def test_deaths_are_counted_by_cause() -> None:
    board = Board(1, 1)
    for cause in ("SIGKILL", "SIGKILL", "exit-1"):
        board.bulletin.died(cause)
    found = samples(board)
    assert found["docket_worker_deaths_total", (("cause", "SIGKILL"),)] == 2
    assert found["docket_worker_deaths_total", (("cause", "exit-1"),)] == 1


def test_the_queue_is_shown_as_it_was_measured_and_not_at_all_when_that_is_long_ago(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    board = Board(1, 1)
    assert ("docket_queue_depth", ()) not in samples(board)
    board.bulletin.measured(5, 6, 7, 8, 9.5)
    found = samples(board)
    assert found["docket_queue_depth", ()] == 5 and found["docket_schedule_depth", ()] == 6
    assert found["docket_dead_letters", ()] == 8 and found["docket_queue_latency_seconds", ()] == 9.5
    monkeypatch.setattr("docket_supervisor.exposition._STALE", 0.0)
    assert ("docket_queue_depth", ()) not in samples(board)


def test_what_runs_is_shown_by_task() -> None:
    board = Board(2, 2)
    for seat in (0, 1):
        board.seats[seat].taken(1)
        board.writer(seat).began(0, "d:1-0", "key", "ship", False)
    assert samples(board)["docket_tasks_running", (("docket_task", "ship"),)] == 2


def test_a_loop_that_has_not_turned_lags() -> None:
    board = Board(1, 1)
    board.bulletin.slots[0].seat = 0
    assert ("docket_loop_lag_seconds", (("slot", "0"),)) not in samples(board)
    board.writer(0).tick()
    assert samples(board)["docket_loop_lag_seconds", (("slot", "0"),)] == 0


def test_names_of_tasks_cannot_break_the_text() -> None:
    board = Board(1, 1)
    board.writer(0).started('a"\\\n}', False, 0.0)
    assert samples(board)["docket_tasks_started_total", (("docket_task", 'a"\\\n}'),)] == 1


def test_open_metrics_are_spoken_to_whoever_prefers_them() -> None:
    body, content_type = expose([Runs("shop", [])], "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text") and body.endswith(b"# EOF\n")


OWN = """
import sys
from docket_supervisor.metrics_files import MetricsFiles
files = MetricsFiles()
files.open()
files.adopt(sys.argv[1])
from prometheus_client import Counter, Gauge
Counter("mails", "An application's own").inc(float(sys.argv[1]))
Gauge("here", "The same", multiprocess_mode="livesum").set(1)
"""


def test_the_tasks_own_metrics_are_read_also_while_a_process_makes_its_file(tmp_path: Path) -> None:
    for seat in ("3", "4"):
        environment = {"PYTHONPATH": source_path(), "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
        subprocess.run([sys.executable, "-c", OWN, seat], env=environment, check=True, timeout=30)
    for name in ("counter_5.db", "gauge_livesum_5.db", "histogram_5.db"):
        (tmp_path / name).touch()
    body, _ = expose([Application(str(tmp_path))], "")
    assert b"mails_total 7.0" in body and b"here 2.0" in body


def test_an_application_without_metrics_shows_none(tmp_path: Path) -> None:
    assert expose([Application(str(tmp_path))], "")[0] == b""
