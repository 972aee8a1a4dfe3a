"""A sync task that does not end at its time limit costs its process, and nobody else anything."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.fleet import Evidence, Supervisor, eventually, gone

Supervise = Callable[..., Supervisor]
LIMIT = timedelta(seconds=60)


@pytest.mark.parametrize(
    "task",
    [does.sleep_for_ever_within_a_second, does.match_for_ever_within_a_second],
    ids=["asleep", "in a C call"],
)
def test_it_fails_by_its_limit_once_its_process_is_dead_and_a_spare_has_taken_over(
    task: Callable[[], None], docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "2", "--concurrency", "4")
    (spare,) = eventually(lambda: supervisor.titled("spare"))
    execution = docket.add(task, key="late")()
    pid = evidence.running_in("late")
    with pytest.raises(TimeoutError, match="it ran longer than 0:00:01"):
        execution.get_result(timeout=LIMIT)
    assert gone(pid), "only then is it settled"
    execution.sync()
    assert (execution.state, execution.attempt, execution.crashes) == ("failed", 1, 0)
    assert len(evidence.began("late")) == 1
    assert spare in supervisor.titled("worker") and len(supervisor.titled("worker")) == 2
    eventually(lambda: supervisor.titled("spare") not in ([], [spare]), "another spare")
    log = supervisor.log()
    assert re.search(
        rf"late \({task.__name__}\) did not end at its time limit of 1s: worker \[\d\] {pid} claims nothing",
        log,
    )
    assert re.search(rf"{pid} .*\(late \({task.__name__}\) did not end at its time limit of 1s\)", log)
    docket.add(does.note, key="after")().get_result()
    assert supervisor.stop() == 0


def test_it_is_retried_as_its_retry_says_and_never_runs_in_two_places(
    docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "2")
    execution = docket.add(does.sleep_for_ever_twice, key="late")()
    first = evidence.running_in("late")
    second = evidence.running_in("late", times=2)
    assert gone(first) and second != first
    with pytest.raises(TimeoutError):
        execution.get_result(timeout=LIMIT)
    execution.sync()
    assert (execution.attempt, execution.crashes, len(evidence.began("late"))) == (2, 0, 2)
    assert gone(second)
    assert supervisor.stop() == 0


def test_its_neighbours_finish_and_what_had_not_begun_runs_elsewhere(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "1", "--concurrency", "4")
    go = tmp_path / "go"
    late = docket.add(does.sleep_for_ever_within_a_second, key="late")()
    neighbours = [
        docket.add((does.wait_for, does.wait_for_sync)[number % 2], key=f"neighbour-{number}")(str(go))
        for number in range(3)
    ]
    pids = {evidence.running_in(each.key) for each in (late, *neighbours)}
    assert len(pids) == 1
    supervisor.logged("claims nothing any more")
    waiting = docket.add(does.note, key="elsewhere")()
    waiting.get_result()
    assert evidence.running_in("elsewhere") not in pids
    late.sync()
    assert late.state == "running", "its process is still there"
    go.touch()
    for neighbour in neighbours:
        neighbour.get_result()
        neighbour.sync()
        assert evidence.ran_once(neighbour.key) and not neighbour.redelivered
    with pytest.raises(TimeoutError):
        late.get_result(timeout=LIMIT)
    assert supervisor.stop() == 0


def test_neighbours_that_take_longer_than_their_grace_are_handed_back_without_blame(
    docket: Docket, supervise: Supervise, evidence: Evidence, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "1", "--concurrency", "4", "--drain-timeout", "1s")
    go = tmp_path / "go"
    late = docket.add(does.sleep_for_ever_within_a_second, key="late")()
    neighbours = [
        docket.add(task, key=task.__name__)(str(go)) for task in (does.wait_for, does.wait_for_sync)
    ]
    first = evidence.running_in("late")
    for neighbour in neighbours:
        assert evidence.running_in(neighbour.key) == first
        assert evidence.running_in(neighbour.key, times=2) != first
    go.touch()
    for neighbour in neighbours:
        neighbour.get_result()
        neighbour.sync()
        assert (neighbour.state, neighbour.crashes, neighbour.attempt) == ("completed", 0, 1)
    with pytest.raises(TimeoutError):
        late.get_result(timeout=LIMIT)
    assert not supervisor.titled("quarantine")
    assert supervisor.stop() == 0


def test_one_that_ends_within_its_grace_costs_nothing(
    docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "1")
    execution = docket.add(does.shield_for_a_while_within_a_second, key="shielded")()
    pid = evidence.running_in("shielded")
    with pytest.raises(TimeoutError):
        execution.get_result(timeout=LIMIT)
    assert not gone(pid) and "claims nothing any more" not in supervisor.log()
    assert evidence.lines("kept whole", "shielded")
    assert supervisor.stop() == 0


def test_a_blocked_loop_is_ended_by_the_limit_of_the_one_that_blocks_it(
    docket: Docket, supervise: Supervise, evidence: Evidence
) -> None:
    supervisor = supervise("--processes", "2", "--hang-timeout", "60s")
    execution = docket.add(does.block_for_ever_within_a_second, key="late")()
    pid = evidence.running_in("late")
    with pytest.raises(TimeoutError):
        execution.get_result(timeout=LIMIT)
    assert gone(pid) and len(evidence.began("late")) == 1
    execution.sync()
    assert (execution.state, execution.crashes) == ("failed", 0)
    assert supervisor.stop() == 0
