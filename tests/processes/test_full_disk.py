"""Where the disk has no room for the tasks' own metrics, they are missing; no work is harmed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.fleet import Evidence, Supervisor

Supervise = Callable[..., Supervisor]


def test_a_task_that_counts_runs_where_its_counts_cannot_be_kept(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    # As on a full disk, which would need privileges to make: no file can be made there.
    folder = tmp_path / "nowhere"
    supervisor = supervise("--processes", "2", "--health-port", "0", PROMETHEUS_MULTIPROC_DIR=str(folder))
    for _ in range(5):
        docket.add(does.count)().get_result()
    assert supervisor.metric("docket_tasks_succeeded_total") == 5
    assert supervisor.metric("docket_worker_deaths_total") == 0 and supervisor.metric("test_mails_total") == 0
    assert f"no room for metrics of the tasks in {folder}" in supervisor.log()
    assert supervisor.stop() == 0
