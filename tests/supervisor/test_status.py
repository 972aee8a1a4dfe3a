"""The documented JSON, put together from a board that a test has filled."""

from __future__ import annotations

import json
import mmap
import os

import pytest
from rich.console import Console

from docket.settings import DocketSettings
from docket_runtime.settings import WorkerSettings
from docket_supervisor.board import Board
from docket_supervisor.memory import private_bytes
from docket_supervisor.settings import SupervisorSettings
from docket_supervisor.status import assemble
from docket_supervisor.table import as_table, duration, size
from docket_supervisor.top import Throughput, watch


@pytest.fixture
def settings() -> SupervisorSettings:
    return SupervisorSettings(
        docket=DocketSettings(name="orders"),
        worker=WorkerSettings(concurrency=5, threads=3, tasks=("shop:tasks", "shop:more", "mail:tasks")),
        processes=2,
    )


@pytest.fixture
def board(settings: SupervisorSettings) -> Board:
    """Two slots: the worker of the first sits in seat 3 and runs two executions, the second one rests."""
    board = Board(settings.seats, 5)
    bulletin = board.bulletin
    bulletin.supervisor_pid, bulletin.template_pid, bulletin.steward_pid = 40, 41, 42
    bulletin.phase, bulletin.generation, bulletin.wanted = "running", 2, 2
    bulletin.tick()
    bulletin.started_at = bulletin.ticked_at - 10
    bulletin.slots[0].seat, bulletin.slots[0].generation = 3, 2
    bulletin.slots[1].state, bulletin.slots[1].restarts = "resting", 4
    bulletin.slots[1].died("SIGSEGV")
    board.seats[3].taken(os.getpid())
    worker = board.writer(3)
    worker.phase("working")
    worker.started("ship", False, 0.0)
    worker.started("pack", True, 0.0)
    worker.finished("ship", "completed", False, 0.1)
    worker.began(0, "d:1-0", "key-1", "ship", False)
    worker.began(4, "d:2-0", "key-2", "pack", True)
    return board


def test_the_shape_is_what_is_documented(board: Board, settings: SupervisorSettings) -> None:
    status = assemble(board, settings)
    assert list(status) == ["docket", "supervisor", "steward", "template", "slots", "queue", "totals"]
    assert list(status["supervisor"]) == ["pid", "phase", "generation", "uptime_s"]
    assert list(status["slots"][0]) == [
        *("slot", "pid", "state", "generation", "running", "concurrency", "threads", "loop_lag_ms"),
        *("private_bytes", "restarts", "last_death"),
    ]
    assert list(status["slots"][0]["running"][0]) == ["key", "task", "age_s", "where"]
    assert list(status["slots"][1]["last_death"]) == ["cause", "at"]
    assert list(status["queue"]) == ["due", "scheduled", "waiting", "dead", "latency_s"]
    assert list(status["totals"]) == ["started", "completed", "failed", "redelivered"]
    assert json.loads(json.dumps(status)) == status


def test_what_the_supervisor_knows(board: Board, settings: SupervisorSettings) -> None:
    status = assemble(board, settings)
    assert status["docket"] == "orders"
    uptime = status["supervisor"].pop("uptime_s")
    assert 10 <= uptime < 15
    assert status["supervisor"] == {"pid": 40, "phase": "running", "generation": 2}
    assert status["steward"] == {"pid": 42}
    assert status["template"] == {"pid": 41, "modules": ["shop", "mail"]}
    assert status["totals"] == {"started": 2, "completed": 1, "failed": 0, "redelivered": 1}


def test_a_slot_is_told_from_the_seat_of_its_worker(board: Board, settings: SupervisorSettings) -> None:
    slot = assemble(board, settings)["slots"][0]
    on_the_loop, in_a_thread = slot.pop("running")
    assert on_the_loop.pop("age_s") >= 0 and in_a_thread.pop("age_s") >= 0
    assert on_the_loop == {"key": "key-1", "task": "ship", "where": "loop"}
    assert in_a_thread == {"key": "key-2", "task": "pack", "where": "thread"}
    assert slot.pop("private_bytes") > 1_000_000
    assert slot.pop("loop_lag_ms") in (None, 0.0)
    assert slot == {
        "slot": 0,
        "pid": os.getpid(),
        "state": "working",
        "generation": 2,
        "concurrency": 5,
        "threads": 3,
        "restarts": 0,
        "last_death": None,
    }


def test_a_slot_without_a_worker_says_why(board: Board, settings: SupervisorSettings) -> None:
    slot = assemble(board, settings)["slots"][1]
    assert (slot["pid"], slot["state"], slot["running"], slot["private_bytes"]) == (None, "resting", [], None)
    assert slot["restarts"] == 4 and slot["last_death"]["cause"] == "SIGSEGV"
    assert slot["last_death"]["at"].endswith("Z")


def test_what_is_not_known_is_null(settings: SupervisorSettings) -> None:
    board = Board(settings.seats, 5)
    board.bulletin.wanted = 1
    status = assemble(board, settings)
    assert (status["template"], status["steward"]) == ({"pid": None, "modules": []}, {"pid": None})
    assert set(status["queue"].values()) == {None}
    assert (status["slots"][0]["state"], status["slots"][0]["loop_lag_ms"]) == ("vacant", None)


def test_the_queue_is_what_the_steward_has_measured(board: Board, settings: SupervisorSettings) -> None:
    board.bulletin.measured(due=3, scheduled=4, waiting=5, dead=6, latency=1.23456)
    assert assemble(board, settings)["queue"] == {
        **{"due": 3, "scheduled": 4, "waiting": 5, "dead": 6, "latency_s": 1.235},
    }


def test_a_loop_that_is_blocked_now_is_late_by_now(
    board: Board, settings: SupervisorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = board.writer(3)
    worker.tick(0.02)
    assert 20 <= assemble(board, settings)["slots"][0]["loop_lag_ms"] < 200
    at = board.seats[3].ticked_at
    monkeypatch.setattr("docket.clock.monotonic", lambda: at + 3.25)
    assert assemble(board, settings)["slots"][0]["loop_lag_ms"] == 3000.0


def test_private_memory_is_ours_alone() -> None:
    before = private_bytes(os.getpid())
    # So much that no hole which other tests have left in this process can hold it.
    ballast = mmap.mmap(-1, 32_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    ballast.write(b"x" * len(ballast))
    after = private_bytes(os.getpid())
    assert before and after and 30_000_000 < after - before < 80_000_000
    assert len(ballast) and private_bytes(99_999_999) is None


def printed(what: object, width: int = 160) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as captured:
        console.print(what)
    return captured.get()


def test_the_table_shows_what_an_operator_looks_for(board: Board, settings: SupervisorSettings) -> None:
    board.bulletin.measured(due=3, scheduled=4, waiting=5, dead=6, latency=2.5)
    shown = printed(as_table(assemble(board, settings)))
    assert "docket orders  supervisor 40 running for 10." in shown and "generation 2" in shown
    assert "1+1/5" in shown and "key-1 (ship) " in shown and "4 (SIGSEGV)" in shown and "resting" in shown
    assert "queue: 3 due (oldest 2.5s), 4 scheduled, 5 waiting, 6 dead letters" in shown
    assert "so far: 2 started, 1 completed, 0 failed, 1 redelivered" in shown


def test_long_keys_take_no_room_from_the_other_columns(board: Board, settings: SupervisorSettings) -> None:
    board.writer(3).began(
        1, "d:1-1", "a key that is longer than a terminal is wide, as generated ones are", "ship", False
    )
    shown = printed(as_table(assemble(board, settings)), width=80)
    for column in ("slot", "pid", "state", "gen", "busy", "lag", "memory", "restarts", "running"):
        assert column in shown


def test_the_oldest_executions_are_named_and_the_others_counted(
    board: Board, settings: SupervisorSettings
) -> None:
    for place in (1, 2, 3):
        board.writer(3).began(place, f"d:{place}-1", f"more-{place}", "ship", False)
    assert "2 more" in printed(as_table(assemble(board, settings)))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0124, "12ms"), (12.34, "12.3s"), (185, "3m05s"), (7620, "2h07m"), (367_200, "4d06h")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_sizes_are_binary() -> None:
    assert (size(3 * 1024**2), size(None)) == ("3.0 MiB", "–")


def counted(ended: int, pid: int = 40) -> dict[str, object]:
    return {"supervisor": {"pid": pid}, "totals": {"completed": ended, "failed": 0}}


def test_throughput_is_a_line_of_bars() -> None:
    throughput = Throughput()
    assert str(throughput) == "throughput: –"
    for second, ended in enumerate((0, 0, 5, 25, 35)):
        throughput.look(counted(ended), float(second))
    assert str(throughput) == "throughput: 10.0/s, 20.0/s at most   ▂█▄"


def test_another_supervisor_counts_from_zero() -> None:
    throughput = Throughput()
    throughput.look(counted(100), 0.0)
    throughput.look(counted(3, pid=41), 1.0)
    throughput.look(counted(5, pid=41), 2.0)
    assert str(throughput) == "throughput: 2.0/s, 2.0/s at most  █"


def test_where_there_is_no_terminal_top_shows_one_picture(board: Board, settings: SupervisorSettings) -> None:
    console = Console(width=160, force_terminal=False)
    with console.capture() as captured:
        watch(lambda: assemble(board, settings), 0.0, console)
    assert captured.get().count("docket orders") == 1 and "throughput" in captured.get()


def test_in_a_terminal_top_goes_on_until_it_is_interrupted(
    board: Board, settings: SupervisorSettings
) -> None:
    looks: list[int] = []

    def look() -> dict[str, object]:
        looks.append(1)
        if len(looks) == 4:
            raise KeyboardInterrupt
        return assemble(board, settings)

    console = Console(width=160, force_terminal=True)
    with console.capture() as captured:
        watch(look, 0.0, console)
    assert len(looks) == 4 and "docket orders" in captured.get()
