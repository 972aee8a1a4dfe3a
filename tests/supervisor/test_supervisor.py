"""The supervisor with real forks and signals; the workers and the steward are stand-ins that obey the test."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.supervisor.service import Service, eventually, gone

Start = Callable[..., Service]


def test_a_service_starts_and_leaves_cleanly_at_a_term(start: Start, preload: bool) -> None:
    service = start(processes=3, preload=preload)
    pids = service.ready(3)
    service.logged("all workers are ready: 3")
    expected = [
        "docket: spare stand-in",
        "docket: steward stand-in",
        *(["docket: template stand-in"] if preload else []),
        *(f"docket: worker stand-in [{slot}] gen 1 busy 0+0/10" for slot in range(3)),
    ]

    def titles() -> list[str]:
        return sorted(" ".join(child.cmdline()).strip() for child in service.children())

    eventually(lambda: titles() == expected, f"{titles()}")
    service.signal(signal.SIGTERM)
    assert service.ends() == 0
    assert all(gone(pid) for pid in pids)
    assert service.events("handed over") == []


def test_a_killed_worker_is_replaced_at_once_and_what_it_ran_is_handed_over(
    start: Start, preload: bool
) -> None:
    service = start(processes=2, preload=preload)
    first, second = service.ready(2)
    service.obeyed(first, "begin key-1 key-2")
    os.kill(first, signal.SIGKILL)
    (order,) = eventually(lambda: service.events("handed over"))
    assert order["id"] == f"stand-in/{first}" and order["started"] == ["d:0-0", "d:1-0"]
    assert "killed by SIGKILL" in order["cause"]
    service.logged(f"{first} killed by SIGKILL after ")
    service.logged("running key-1 (task), key-2 (task)")
    replacement = service.ready(3)[2]
    assert replacement not in (first, second) and not gone(second)
    service.signal(signal.SIGTERM)
    assert service.ends() == 0


def test_suspects_are_run_in_quarantine_processes_that_leave_by_themselves(start: Start) -> None:
    service = start(processes=2, concurrency=3)
    first, _ = service.ready(2)
    service.obeyed(first, "begin a b c")
    service.order(first, "kill SIGSEGV")
    eventually(
        lambda: sum(event["quarantine"] for event in service.events("ready")) == 2, "two in quarantine"
    )
    assert {event["concurrency"] for event in service.events("ready") if event["quarantine"]} == {1}
    service.logged("killed by SIGSEGV")
    service.signal(signal.SIGTERM)
    assert service.ends() == 0


def test_two_signals_shorten_the_drain_and_work_is_handed_back(start: Start, preload: bool) -> None:
    service = start(processes=1, preload=preload, short_drain=0.3)
    (pid,) = service.ready(1)
    service.obeyed(pid, "begin key")
    service.signal(signal.SIGTERM)
    service.logged("draining, for 30s at most")
    assert not gone(pid)
    service.signal(signal.SIGTERM)
    assert service.ends() == 7


@pytest.mark.parametrize(("third", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_three_signals_stop_at_once(start: Start, third: signal.Signals, code: int) -> None:
    service = start(processes=1)
    (pid,) = service.ready(1)
    service.obeyed(pid, "begin key")
    service.signal(signal.SIGINT)
    service.logged("draining, for 30s at most; the next one will drain for 5s only")
    service.signal(signal.SIGINT)
    service.logged("draining, for 5s at most; the next one will stop immediately")
    service.signal(third)
    service.logged("stopping immediately")
    assert service.ends(5) == code


def test_a_worker_that_outlives_the_deadline_is_killed_and_blamed_on_nobody(start: Start) -> None:
    service = start(processes=2, drain_timeout=0.2, kill_margin=0.2)
    pid, _ = service.ready(2)
    service.obeyed(pid, "begin key")
    service.obeyed(pid, "stubborn")
    service.signal(signal.SIGTERM)
    assert service.ends(5) == 7
    (order,) = service.events("handed over")
    assert (order["id"], order["started"]) == (f"stand-in/{pid}", [])
    assert gone(pid)


def test_a_stopped_worker_cannot_keep_the_service_from_leaving(start: Start) -> None:
    service = start(processes=1, drain_timeout=0.2, kill_margin=0.2)
    (pid,) = service.ready(1)
    os.kill(pid, signal.SIGSTOP)
    service.signal(signal.SIGTERM)
    assert service.ends(5) == 7


def test_a_signal_during_the_start_leaves_cleanly(start: Start, preload: bool) -> None:
    service = start(processes=2, preload=preload)
    service.logged("supervisor")
    eventually(lambda: service.events("steward"))
    service.signal(signal.SIGTERM)
    assert service.ends(5) == 0


def test_an_import_that_fails_is_told_once_and_ends_with_3(
    start: Start, tmp_path: Path, preload: bool
) -> None:
    (tmp_path / "app_tasks.py").write_text("raise RuntimeError('cannot be imported')\n")
    service = start(processes=4, preload=preload)
    assert service.ends(10) == 3
    assert service.log().count("Traceback") == 1
    assert service.log().count("RuntimeError: cannot be imported") == 1


def test_an_import_that_never_ends_ends_with_4(start: Start, tmp_path: Path, preload: bool) -> None:
    (tmp_path / "app_tasks.py").write_text("import time\ntime.sleep(60)\n")
    service = start(processes=2, preload=preload, boot_timeout=0.5)
    assert service.ends(10) == 4
    service.logged("no worker became ready within 500ms")


def test_workers_that_never_get_anywhere_use_up_the_budget(start: Start, tmp_path: Path) -> None:
    (tmp_path / "at-start").write_text("exit 1")
    service = start(processes=2, max_restarts=2)
    assert service.ends(10) == 5
    assert service.log().count("exited with status 1") == 6
    assert service.log().count("giving up slot") == 2


def test_a_configuration_that_a_worker_refuses_ends_with_2(start: Start, tmp_path: Path) -> None:
    (tmp_path / "at-start").write_text("exit 2")
    service = start(processes=2)
    assert service.ends(10) == 2


def test_without_redis_a_start_waits_unless_it_is_required(start: Start, tmp_path: Path) -> None:
    (tmp_path / "unreachable").touch()
    (tmp_path / "at-start").write_text("sleep 60")
    service = start(processes=1, require_redis=True, redis_patience=0.5, boot_timeout=5)
    assert service.ends(10) == 6
    service.logged("Redis was not reachable within 500ms: refused")


def test_no_boot_is_late_while_redis_is_away(start: Start, tmp_path: Path) -> None:
    (tmp_path / "unreachable").touch()
    (tmp_path / "at-start").write_text("sleep 1.2")
    service = start(processes=1, boot_timeout=0.7)
    eventually(lambda: service.events("steward"))
    assert service.ready(1)
    service.signal(signal.SIGTERM)
    assert service.ends() == 0


def test_children_leave_when_the_supervisor_is_killed(start: Start, preload: bool) -> None:
    service = start(processes=2, preload=preload)
    pids = service.ready(2)
    others = [child.pid for child in service.children()]
    service.signal(signal.SIGKILL)
    eventually(lambda: len(service.events("orphaned")) == 2, "both workers see the end of the lifeline")
    eventually(lambda: service.events("steward orphaned"))
    eventually(lambda: all(gone(pid) for pid in (*pids, *others)))


def test_a_killed_steward_is_replaced_and_told_again_what_it_had_not_done(
    start: Start, tmp_path: Path
) -> None:
    service = start(processes=2)
    pid, _ = service.ready(2)
    (tmp_path / "unreachable").touch()
    service.obeyed(pid, "begin key")
    service.order(pid, "exit 1")
    service.logged(f"{pid} exited with status 1")
    (steward,) = service.events("steward")
    os.kill(steward["pid"], signal.SIGKILL)
    eventually(lambda: len(service.events("steward")) == 2, "another steward")
    assert service.events("handed over") == []
    (tmp_path / "unreachable").unlink()
    (order,) = eventually(lambda: service.events("handed over"))
    assert order["id"] == f"stand-in/{pid}" and order["started"] == ["d:0-0"]
    service.signal(signal.SIGTERM)
    assert service.ends() == 0


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="only Linux limits other processes")
@pytest.mark.parametrize("who", ["steward", "template"])
def test_who_finds_no_descriptors_is_tried_again(start: Start, who: str) -> None:
    service = start(processes=1)
    service.ready(1)
    eventually(lambda: service.events("steward"))
    supervisor = psutil.Process(service.process.pid)

    def there() -> list[int]:
        found: list[int] = []
        for child in service.children():
            with suppress(psutil.Error):
                if f"docket: {who}" in " ".join(child.cmdline()):
                    found.append(child.pid)
        return found

    (killed,) = eventually(there)
    before = supervisor.rlimit(psutil.RLIMIT_NOFILE)
    supervisor.rlimit(psutil.RLIMIT_NOFILE, (3, before[1]))
    os.kill(killed, signal.SIGKILL)
    service.logged(f"could not fork a {who}: [Errno 24]")
    supervisor.rlimit(psutil.RLIMIT_NOFILE, before)
    eventually(lambda: there() not in ([], [killed]), f"another {who}")
    service.signal(signal.SIGTERM)
    assert service.ends() == 0


def test_a_steward_that_is_gone_vouches_for_nobody(start: Start, tmp_path: Path) -> None:
    service = start(processes=1, redelivery_timeout=0.4)
    (pid,) = service.ready(1)

    def answers(wanted: bool) -> bool:
        asked = len(service.events("vouched"))
        service.order(pid, "vouched")
        eventually(lambda: len(service.events("vouched")) > asked)
        return service.events("vouched")[-1]["answer"] is wanted

    eventually(lambda: answers(True))
    (tmp_path / "unreachable").touch()
    eventually(lambda: answers(False))
    (tmp_path / "unreachable").unlink()
    eventually(lambda: answers(True))


def test_a_killed_template_is_replaced_and_workers_stay(start: Start) -> None:
    service = start(processes=2)
    first, second = service.ready(2)
    (template,) = [child for child in service.children() if "template" in " ".join(child.cmdline())]
    template.kill()
    service.logged(f"template {template.pid} killed by SIGKILL")
    os.kill(first, signal.SIGKILL)
    replacement = service.ready(3)[2]
    assert not gone(second)
    assert "gen 2" in " ".join(psutil.Process(replacement).cmdline())
    service.signal(signal.SIGTERM)
    assert service.ends() == 0


def test_many_deaths_at_once_are_all_noticed(start: Start, preload: bool) -> None:
    service = start(processes=6, preload=preload)
    for pid in service.ready(6):
        service.obeyed(pid, f"begin key-{pid}")
        os.kill(pid, signal.SIGKILL)
    service.ready(12)
    eventually(lambda: len(service.events("handed over")) == 6)
    service.signal(signal.SIGTERM)
    assert service.ends() == 0


@pytest.mark.parametrize("how", ["", "apart", "deaf", "apart deaf"])
def test_programs_that_a_task_started_end_with_their_worker(start: Start, how: str) -> None:
    service = start(processes=2)
    pid, other = service.ready(2)
    service.obeyed(pid, f"spawn {how}".strip())
    service.obeyed(other, "spawn apart")
    mine, others = (event["child"] for event in service.events("spawned"))
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: gone(mine), "the end of the program", patience=3.0)
    assert not gone(others) and not gone(other)
    service.signal(signal.SIGTERM)
    assert service.ends() == 0
    eventually(lambda: gone(others), patience=3.0)


def test_a_program_that_was_set_free_outlives_its_worker(start: Start) -> None:
    service = start(processes=1)
    (pid,) = service.ready(1)
    service.obeyed(pid, "spawn apart freed")
    (program,) = service.events("spawned")
    os.kill(pid, signal.SIGKILL)
    service.ready(2)
    service.signal(signal.SIGTERM)
    assert service.ends() == 0
    assert not gone(program["child"])
    os.kill(program["child"], signal.SIGKILL)


def test_a_stranger_that_dies_is_reaped_and_not_taken_for_a_worker(start: Start) -> None:
    service = start(processes=1)
    (pid,) = service.ready(1)
    service.obeyed(pid, "spawn apart freed")
    (program,) = service.events("spawned")
    service.order(pid, "exit 0")
    service.ready(2)
    os.kill(program["child"], signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(program["child"]), "the stranger is reaped")
    service.logged("which is none of ours")
    assert len(service.events("ready")) == 2
    service.signal(signal.SIGTERM)
    assert service.ends() == 0


def test_an_idle_supervisor_sleeps(start: Start) -> None:
    service = start(processes=2)
    service.ready(2)
    service.logged("all workers are ready: 2")
    process = psutil.Process(service.process.pid)
    before, started = process.num_ctx_switches().voluntary, time.monotonic()
    while time.monotonic() - started < 1.0:
        time.sleep(0.1)
    assert process.num_ctx_switches().voluntary - before < 20


def test_a_thread_that_the_task_modules_start_is_warned_of(start: Start, tmp_path: Path) -> None:
    (tmp_path / "app_tasks.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,), name='of the app', daemon=True).start()\n"
        "tasks = [print]\n"
    )
    service = start(processes=1)
    service.ready(1)
    service.logged("thread of the app, started by import ")
    service.signal(signal.SIGTERM)
    assert service.ends() == 0


def test_a_template_that_dies_while_nothing_can_be_imported_any_more_leaves_the_workers_alone(
    start: Start, tmp_path: Path
) -> None:
    service = start(processes=1)
    (pid,) = service.ready(1)
    (tmp_path / "app_tasks.py").write_text("raise RuntimeError('half-deployed')\n")
    (template,) = [child for child in service.children() if "template" in " ".join(child.cmdline())]
    template.kill()
    service.logged("RuntimeError: half-deployed")
    assert not gone(pid) and service.process.poll() is None
    service.signal(signal.SIGTERM)
    assert service.ends() == 0
