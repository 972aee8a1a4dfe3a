"""The witness: what a task did is written down as it is done, and survives its process."""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext
from pathlib import Path

import pytest

from chaos.incidents import ALL, Incidents
from chaos.witness import INTERRUPTED, RAISED, RETURNED, Witness, seen
from docket.errors import TaskInterrupted


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (None, RETURNED),
        (ValueError("no"), RAISED),
        (TaskInterrupted(), INTERRUPTED),
        (KeyboardInterrupt(), INTERRUPTED),
    ],
)
def test_the_end_is_told_with_how_it_came(error: BaseException | None, how: str, tmp_path: Path) -> None:
    with nullcontext() if error is None else pytest.raises(type(error)):  # noqa: SIM117
        with Witness(tmp_path / "ledger").running("key", "task", attempt=2):
            if error is not None:
                raise error
    (run,) = seen(tmp_path / "ledger")
    assert (run.key, run.task, run.pid, run.attempt, run.ended) == ("key", "task", os.getpid(), 2, how)
    assert run.ended_at >= run.began_at


def test_a_killed_process_leaves_a_beginning_without_an_end(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        with Witness(tmp_path / "ledger").running("key", "task"):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    (run,) = seen(tmp_path / "ledger")
    assert (run.pid, run.ended, run.done) == (pid, "", False)


def test_a_line_that_is_half_written_is_no_testimony_yet(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with Witness(ledger).running("key", "task"):
        pass
    with ledger.open("a") as file:
        file.write('{"event": "beg')
    assert len(seen(ledger)) == 1


def test_nobody_has_seen_anything_where_there_is_no_ledger(tmp_path: Path) -> None:
    assert seen(tmp_path / "none") == []


def test_incidents_can_be_kept_and_read_again(tmp_path: Path) -> None:
    incidents = Incidents()
    incidents.happened("kill", 7, "because")
    incidents.happened("roll", ALL, until=5.0)
    incidents.save(tmp_path / "incidents")
    assert list(Incidents.load(tmp_path / "incidents")) == list(incidents)
    assert next(iter(incidents)).concerns(7) and not next(iter(incidents)).concerns(8)
