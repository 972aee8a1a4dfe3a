"""The tallies: what was counted stays counted, whoever dies, and names do not grow without bound."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import time

from hypothesis import given
from hypothesis import strategies as st

from docket_supervisor.tally import BOUNDS, COUNTERS, OTHER, ROWS, TALLY_BYTES, Tallies, Tally, summed


def shared(seats: int) -> Tallies:
    return Tallies(memoryview(mmap.mmap(-1, seats * TALLY_BYTES)))


def counts(tally: Tally | Tallies, task: str) -> dict[str, int]:
    (row,) = [row for row in tally.rows() if row.task == task]
    return {name: count for name, count in zip(COUNTERS, row.counts, strict=True) if count}


def test_nothing_is_counted_at_first() -> None:
    assert shared(3).rows() == [] and Tally().rows() == []


def test_every_kind_of_end_is_counted_as_what_it_is() -> None:
    tally = Tally()
    ends = (
        ("completed", False),
        ("failed", True),
        ("retry", True),
        ("perpetuate", False),
        ("perpetuate", True),
        ("cancelled", False),
        ("interrupted", False),
    )
    for number, (outcome, failed) in enumerate(ends):
        tally.started("task", number == 0, 0.0)
        tally.finished("task", outcome, failed, 0.1)
    assert counts(tally, "task") == {
        "started": 7,
        "redelivered": 1,
        "completed": 7,
        "succeeded": 2,
        "failed": 3,
        "retried": 1,
        "perpetuated": 2,
        "cancelled": 1,
    }


def test_durations_and_lateness_fall_between_their_bounds() -> None:
    tally = Tally()
    for late, seconds in ((0.0, BOUNDS[0]), (0.02, 0.02), (1000.0, 1000.0)):
        tally.started("task", False, late)
        tally.finished("task", "completed", False, seconds)
    (row,) = tally.rows()
    assert [at for at, count in enumerate(row.seconds.buckets) if count] == [0, 3, len(BOUNDS)]
    assert row.seconds.buckets == row.late.buckets
    assert (row.late.total, row.seconds.total) == (1000.02, 1000.02 + BOUNDS[0])


def test_the_seats_are_added_up_task_by_task() -> None:
    tallies = shared(3)
    for seat in (0, 2):
        writer = tallies.writer(seat)
        for task in ("b", "a")[: seat + 1]:
            writer.started(task, False, 0.0)
    assert [(row.task, row["started"]) for row in tallies.rows()] == [("a", 1), ("b", 2)]


def test_the_next_worker_of_a_seat_counts_on() -> None:
    tallies = shared(1)
    for _ in range(5):
        writer = tallies.writer(0)
        for task in ("one", "two"):
            writer.started(task, False, 0.0)
            writer.finished(task, "completed", False, 0.0)
    assert counts(tallies, "one") == counts(tallies, "two") == {"started": 5, "completed": 5, "succeeded": 5}


def test_more_tasks_than_rows_are_counted_together() -> None:
    tallies = shared(1)
    for incarnation in range(2):
        writer = tallies.writer(0)
        for number in range(ROWS + 100):
            writer.started(f"task-{number}", False, 0.0)
            writer.finished(f"task-{number}", "completed", False, 0.0)
        rows = tallies.rows()
        assert len(rows) == ROWS
        assert sum(row["started"] for row in rows) == (incarnation + 1) * (ROWS + 100)
        assert counts(tallies, OTHER)["started"] == (incarnation + 1) * 101


@given(names=st.lists(st.text(min_size=1), min_size=1, max_size=20))
def test_any_name_can_be_counted(names: list[str]) -> None:
    tally = Tally()
    for name in names:
        tally.started(name, False, 0.0)
        tally.finished(name, "completed", False, 0.0)
    rows = tally.rows()
    assert sum(row["started"] for row in rows) == sum(row["succeeded"] for row in rows) == len(names)


def test_a_long_name_is_cut_between_characters() -> None:
    tally = Tally()
    tally.started("é" * 100, False, 0.0)
    assert [row.task for row in tally.rows()] == ["é" * 63]


def test_no_increment_is_lost_to_a_kill() -> None:
    """A writer counts, and after each count writes the number into a pipe; it is killed wherever it may be. What was
    counted is what was told, or one more: that of which there was no time to tell."""
    for _ in range(20):
        tallies = shared(1)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            tally = tallies.writer(0)
            number = 0
            while True:
                number += 1
                tally.started("task", False, 0.0)
                tally.finished("task", "completed", False, 0.0)
                os.write(writer, struct.pack("@q", number))
        os.close(writer)
        told = b""
        while len(told) < 8 * 1000:
            told += os.read(reader, 65536)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while chunk := os.read(reader, 65536):
            told += chunk
        os.close(reader)
        last = struct.unpack_from("@q", told, len(told) // 8 * 8 - 8)[0]
        found = counts(tallies, "task")
        assert last <= found["succeeded"] <= found["started"] <= last + 1


def test_counting_is_cheap() -> None:
    tally = Tally()
    best = 1.0
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(2_000):
            tally.started("my_task", False, 0.003)
            tally.finished("my_task", "completed", False, 0.02)
        best = min(best, (time.perf_counter() - began) / 2_000)
    assert best < 10e-6, f"{best * 1e6:.1f} µs for started and finished"


def test_rows_of_one_name_are_one() -> None:
    tally = Tally()
    tally.started("a", False, 0.0)
    (row,) = summed([*tally.rows(), *tally.rows()])
    assert row["started"] == 2
