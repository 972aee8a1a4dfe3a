"""Rolling restarts with real forks and signals; the workers and the steward are stand-ins that obey the test."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.supervisor.service import Service, eventually, gone

Start = Callable[..., Service]


@pytest.fixture
def usual() -> dict[str, Any]:
    return {"canary": 0.2}


def generations(service: Service) -> list[int]:
    """Of the workers that stand for a slot, as their titles tell."""
    found = [re.search(r"worker .* gen (\d+)", title) for title in service.titles()]
    return sorted(int(each[1]) for each in found if each)


def reloaded(service: Service, times: int = 1) -> None:
    eventually(
        lambda: service.log().count("is in service: ") == times, lambda: f"reloaded\n{service.log()}\nwhich"
    )


def left(service: Service) -> None:
    service.signal(signal.SIGTERM)
    assert service.ends() == 0


def test_a_hup_replaces_every_worker_by_one_of_the_next_generation(start: Start, preload: bool) -> None:
    service = start(processes=3, preload=preload)
    old = service.ready(3)
    service.signal(signal.SIGHUP)
    reloaded(service)
    assert [title for title in service.titles() if "worker" in title] == [
        f"docket: worker stand-in [{slot}] gen 2 busy 0+0/10" for slot in range(3)
    ]
    assert all(gone(pid) for pid in old)
    assert sum("template" in title for title in service.titles()) == (1 if preload else 0)
    assert "generation 2 is in service: 3 workers replaced" in service.log()
    assert service.events("handed over") == []
    left(service)


def test_the_number_of_ready_workers_never_falls_below_n_and_one_more_is_the_most(
    start: Start, preload: bool
) -> None:
    service = start(processes=3, preload=preload)
    service.ready(3)
    service.signal(signal.SIGHUP)
    reloaded(service)
    # In the order of the events: each is ready before the one that it replaces leaves, and one after another.
    assert [event["event"] for event in service.events("ready", "left")] == ["ready"] * 3 + [
        "ready",
        "left",
    ] * 3
    left(service)


def test_the_new_code_is_imported(start: Start, tmp_path: Path, preload: bool) -> None:
    service = start(processes=2, preload=preload)
    service.ready(2)
    (tmp_path / "app_tasks.py").write_text(
        "from pathlib import Path\n(Path(__file__).parent / 'imported-anew').touch()\ntasks = [print, len]\n"
    )
    service.signal(signal.SIGHUP)
    reloaded(service)
    assert (tmp_path / "imported-anew").exists()
    left(service)


def test_code_that_does_not_import_leaves_the_old_in_service_and_is_told_once_each_time(
    start: Start, tmp_path: Path, preload: bool
) -> None:
    service = start(processes=3, preload=preload)
    old = service.ready(3)
    (tmp_path / "app_tasks.py").write_text("raise RuntimeError('half-deployed')\n")
    for times in (1, 2):
        service.signal(signal.SIGHUP)
        eventually(
            lambda times=times: service.log().count("reload undone, generation 1 stays in service") == times
        )
        assert service.log().count("Traceback") == times
        assert service.log().count("RuntimeError: half-deployed") == times
    assert not any(gone(pid) for pid in old) and generations(service) == [1, 1, 1]
    (tmp_path / "app_tasks.py").write_text("tasks = [print]\n")
    service.signal(signal.SIGHUP)
    reloaded(service)
    assert generations(service) == [2, 2, 2]
    left(service)


def test_an_import_that_never_ends_is_undone_after_the_boot_timeout(
    start: Start, tmp_path: Path, preload: bool
) -> None:
    service = start(processes=2, preload=preload, boot_timeout=4)
    old = service.ready(2)
    (tmp_path / "app_tasks.py").write_text("import time\ntime.sleep(600)\n")
    service.signal(signal.SIGHUP)
    service.logged("reload undone, generation 1 stays in service")
    assert not any(gone(pid) for pid in old)
    eventually(lambda: len(service.children()) == (5 if preload else 4), "who was to follow is gone")
    left(service)


def test_a_canary_that_dies_while_it_is_watched_undoes_the_reload(start: Start, preload: bool) -> None:
    service = start(processes=2, preload=preload, canary=60)
    old = service.ready(2)
    service.signal(signal.SIGHUP)
    canary = service.ready(3)[2]
    assert generations(service) == [1, 1, 2], "it works beside the others, nobody has left for it"
    os.kill(canary, signal.SIGKILL)
    service.logged("reload undone, generation 1 stays in service: the canary killed by SIGKILL")
    assert not any(gone(pid) for pid in old) and generations(service) == [1, 1]
    left(service)


def test_a_canary_that_is_not_ready_in_time_undoes_the_reload(
    start: Start, tmp_path: Path, preload: bool
) -> None:
    service = start(processes=2, preload=preload, boot_timeout=4)
    old = service.ready(2)
    (tmp_path / "at-start").write_text("sleep 60")
    service.signal(signal.SIGHUP)
    service.logged("reload undone, generation 1 stays in service: the canary was not ready in time")
    assert not any(gone(pid) for pid in old) and generations(service) == [1, 1]
    left(service)


def test_the_others_follow_only_when_the_canary_was_watched_for_long_enough(start: Start) -> None:
    service = start(processes=2, canary=1)
    old = service.ready(2)
    service.signal(signal.SIGHUP)
    service.ready(3)
    ready_at = time.monotonic()
    assert not any(gone(pid) for pid in old)
    eventually(lambda: gone(old[0]), "the first one is relieved")
    assert time.monotonic() - ready_at > 0.8
    reloaded(service)
    left(service)


def test_a_worker_that_dies_during_the_trial_is_replaced_by_one_of_the_old_code(
    start: Start, preload: bool
) -> None:
    service = start(processes=2, preload=preload, canary=60)
    old = service.ready(2)
    service.signal(signal.SIGHUP)
    service.ready(3)
    os.kill(old[1], signal.SIGKILL)
    service.ready(4)
    assert generations(service) == [1, 1, 2]
    left(service)


def test_slots_whose_new_worker_never_comes_up_are_handed_back(start: Start, tmp_path: Path) -> None:
    service = start(processes=3, canary=0.3, max_restarts=2)
    service.ready(3)
    service.signal(signal.SIGHUP)
    service.ready(4)
    (tmp_path / "at-start").write_text("exit 1")
    service.logged("undoing the reload: slot 1 could not be handed on: its new worker exited with status 1")
    (tmp_path / "at-start").unlink()
    service.logged("reload undone, generation 1 stays in service: slot 1 could not be handed on")
    assert generations(service) == [1, 1, 1]
    left(service)


def test_without_a_template_there_is_no_old_code_to_hand_slots_back_to(start: Start, tmp_path: Path) -> None:
    service = start(processes=3, preload=False, canary=0.3, max_restarts=2)
    service.ready(3)
    service.signal(signal.SIGHUP)
    new = service.ready(4)[3]
    (tmp_path / "at-start").write_text("exit 1")
    service.logged("reload undone, generation 1 stays in service: slot 1 could not be handed on")
    assert generations(service) == [1, 1, 2] and not gone(new)
    (tmp_path / "at-start").unlink()
    service.signal(signal.SIGHUP)
    reloaded(service)
    assert generations(service) == [2, 2, 2] and gone(new)
    left(service)


def test_a_slot_that_was_given_up_comes_back_with_the_new_code(start: Start, tmp_path: Path) -> None:
    service = start(processes=2, max_restarts=0)
    _, second = service.ready(2)
    service.order(second, "exit 1")
    service.logged("giving up slot")
    service.signal(signal.SIGHUP)
    reloaded(service)
    assert generations(service) == [2, 2]
    left(service)


def test_a_reload_asked_for_during_a_reload_follows_it(start: Start, preload: bool) -> None:
    service = start(processes=2, preload=preload, canary=0.5)
    service.ready(2)
    service.signal(signal.SIGHUP)
    service.logged("to follow")
    service.signal(signal.SIGHUP)
    service.logged("another one follows it")
    reloaded(service, times=2)
    assert generations(service) == [3, 3]
    left(service)


@pytest.mark.parametrize("said", ["reloading", "tries it", "has passed its trial"])
def test_a_signal_during_a_reload_ends_the_service_cleanly(start: Start, preload: bool, said: str) -> None:
    service = start(processes=2, preload=preload, canary=0.5)
    service.ready(2)
    service.signal(signal.SIGHUP)
    service.logged(said)
    service.signal(signal.SIGTERM)
    assert service.ends(5) == 0
    assert "reload undone" not in service.log()


def test_a_hup_during_the_start_waits_until_there_is_something_to_replace(
    start: Start, preload: bool
) -> None:
    service = start(processes=2, preload=preload)
    eventually(lambda: service.events("steward"))
    service.signal(signal.SIGHUP)
    reloaded(service)
    assert generations(service) == [2, 2]
    left(service)


def test_an_old_worker_that_outlives_its_grace_is_killed_and_what_it_ran_is_handed_over(
    start: Start,
) -> None:
    service = start(processes=1, drain_timeout=0.2, kill_margin=0.2)
    (pid,) = service.ready(1)
    service.obeyed(pid, "begin key")
    service.obeyed(pid, "stubborn")
    service.signal(signal.SIGHUP)
    reloaded(service)
    (order,) = service.events("handed over")
    assert (order["id"], order["started"]) == (f"stand-in/{pid}", [])
    left(service)


def test_a_template_that_dies_on_trial_undoes_the_reload(start: Start, tmp_path: Path) -> None:
    service = start(processes=1, canary=60)
    (pid,) = service.ready(1)
    (tmp_path / "app_tasks.py").write_text("import os\nos.abort()\n")
    service.signal(signal.SIGHUP)
    service.logged("reload undone, generation 1 stays in service: template killed by SIGABRT")
    assert not gone(pid)
    left(service)
