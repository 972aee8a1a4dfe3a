"""How a service starts, or does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.fleet import Evidence, Supervisor, eventually

Supervise = Callable[..., Supervisor]
PRELOAD = pytest.mark.parametrize("preload", ["--preload", "--no-preload"])


@PRELOAD
def test_the_titles_tell_what_every_process_is_and_does(
    preload: str, docket: Docket, docket_name: str, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "2", "--concurrency", "7", preload)
    go = tmp_path / "go"
    docket.add(does.wait_for, key="on-the-loop")(str(go))
    docket.add(does.wait_for_sync, key="in-a-thread")(str(go))
    evidence.running_in("on-the-loop")
    evidence.running_in("in-a-thread")

    def titles() -> list[str]:
        service = psutil.Process(supervisor.pid)
        return sorted(" ".join(each.cmdline()).strip() for each in (service, *service.children()))

    def busy() -> int:
        shown = [title.split(" busy ")[1].split("/")[0] for title in titles() if " busy " in title]
        return sum(int(number) for pair in shown for number in pair.split("+"))

    eventually(lambda: busy() == 2, f"{titles()}")
    expected = [f"docket: {kind} {docket_name}" for kind in ("spare", "steward", "supervisor")]
    if preload == "--preload":
        expected.append(f"docket: template {docket_name}")
    eventually(lambda: [title for title in titles() if " worker " not in title] == expected, f"{titles()}")
    for slot in range(2):
        (title,) = [title for title in titles() if f"[{slot}]" in title]
        assert title.startswith(f"docket: worker {docket_name} [{slot}] gen 1 busy ") and title.endswith("/7")
    go.touch()
    eventually(lambda: busy() == 0, f"{titles()}")
    assert supervisor.stop() == 0


@PRELOAD
def test_tasks_that_cannot_be_imported_end_the_service_with_3_and_one_traceback(
    preload: str, supervise: Supervise, tmp_path: Path
) -> None:
    (tmp_path / "broken_app.py").write_text("raise RuntimeError('cannot be imported')\n")
    supervisor = supervise(
        *("--processes", "4", preload, "--app-dir", str(tmp_path), "--tasks", "broken_app:tasks"), ready=False
    )
    assert supervisor.ends() == 3
    assert supervisor.log().count("Traceback") == 1
    assert supervisor.log().count("RuntimeError: cannot be imported") == 1


def test_a_url_that_names_no_redis_ends_the_service_with_2(supervise: Supervise) -> None:
    supervisor = supervise("--url", "http://example", "--processes", "1", ready=False)
    assert supervisor.ends() == 2


def test_eight_processes_are_up_within_three_seconds(
    supervise: Supervise, record_property: Callable[..., None]
) -> None:
    started = time.monotonic()
    supervisor = supervise("--processes", "8")
    took = time.monotonic() - started
    record_property("seconds_to_boot_8_processes", took)
    assert took < 3
    assert supervisor.stop() == 0


def test_a_signal_during_the_start_ends_it_cleanly(supervise: Supervise) -> None:
    supervisor = supervise("--processes", "4", ready=False)
    supervisor.logged("starts docket")
    assert supervisor.stop() == 0


def test_a_worker_loads_nothing_that_it_could_share(docket: Docket, supervise: Supervise) -> None:
    """What is not imported before the fork is loaded by every worker again, into memory of its own."""
    supervisor = supervise("--processes", "1")
    for task in (does.note, does.note_sync):
        docket.add(task)().get_result()
    assert docket.add(does.loaded_since)().get_result() == ""
    assert supervisor.stop() == 0


SICK = """
import threading, time
threading.Thread(target=time.sleep, args=(600,), daemon=True, name="refresher").start()
def task(): ...
tasks = [task]
"""


@pytest.fixture
def sick(tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "sick_app.py").write_text(SICK)
    return ("--processes", "1", "--tasks", "sick_app:tasks", "--app-dir", str(tmp_path))


def test_a_thread_that_importing_has_started_is_warned_of_with_its_import(
    supervise: Supervise, sick: tuple[str, ...]
) -> None:
    supervisor = supervise(*sick)
    assert supervisor.log().count("thread refresher, started by import sick_app") == 1
    assert supervisor.stop() == 0


def test_a_strict_start_refuses_to_fork_from_that(supervise: Supervise, sick: tuple[str, ...]) -> None:
    supervisor = supervise(*sick, "--strict-fork", ready=False)
    assert supervisor.ends() == 2
    assert "thread refresher, started by import sick_app" in supervisor.log()
    assert "no worker is forked from that" in supervisor.log()


def test_what_importing_leaves_is_no_matter_where_every_worker_imports(
    supervise: Supervise, sick: tuple[str, ...]
) -> None:
    supervisor = supervise(*sick, "--strict-fork", "--no-preload")
    assert "refresher" not in supervisor.log()
    assert supervisor.stop() == 0
