"""Stacks of real processes: asked for, left behind by a crash, never waited for."""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from docket import clock, stacks
from docket_runtime.claims import Claims
from docket_runtime.dumping import dump_instead
from docket_runtime.loopwatch import LoopWatch
from docket_supervisor.board import Board
from docket_supervisor.dumps import PATIENCE, Dumps
from docket_supervisor.spool import Spool

Main = Callable[[Callable[[], object]], object]
Start = Callable[[int, Main], int]


@pytest.fixture
def spool() -> Iterator[Spool]:
    spool = Spool(2)
    yield spool
    spool.close()


@pytest.fixture
def board() -> Board:
    return Board(2, 1)


@pytest.fixture
def dumps(spool: Spool, board: Board) -> Dumps:
    return Dumps(spool, board.seats, lambda number: f"process {number}", lambda: range(len(spool.files)))


@pytest.fixture
def start(spool: Spool) -> Iterator[Start]:
    """A child that can write its stacks, and then does what it is given."""
    pids: list[int] = []

    def started(number: int, main: Main) -> int:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                from docket_runtime.dumping import dump_on_request

                dump_on_request(spool.file(number))
                main(lambda: os.write(writer, b"."))
            finally:
                os._exit(0)
        os.close(writer)
        assert os.read(reader, 1) == b"."
        os.close(reader)
        pids.append(pid)
        return pid

    yield started
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def turned(dumps: Dumps, until: Callable[[], object], patience: float = 5.0) -> None:
    give_up_at = time.monotonic() + patience
    while not until():
        dumps.turn(clock.monotonic())
        assert time.monotonic() < give_up_at
        time.sleep(0.005)


def sleeping(begun: Callable[[], object]) -> None:
    begun()
    time.sleep(60)


def test_a_process_is_asked_and_its_stacks_are_logged(
    dumps: Dumps, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    taken: list[str] = []
    pid = start(1, sleeping)
    dumps.ask(1, pid, "worker 7", taken.append)
    turned(dumps, lambda: taken)
    assert any(frame.name == "sleeping" for frame in stacks.parse(taken[0])[-1])
    assert caplog.messages[0].startswith("stacks of worker 7:\n") and "in sleeping" in caplog.messages[0]
    dumps.ask(1, pid, "worker 7", taken.append, quietly=True)
    turned(dumps, lambda: len(taken) == 2)
    assert len(caplog.messages) == 1


def test_what_somebody_else_asked_for_is_logged_too(
    dumps: Dumps, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    os.kill(start(0, sleeping), signal.SIGUSR1)
    turned(dumps, lambda: "stacks of process 0" in caplog.text)


def test_a_stopped_process_is_waited_for_only_so_long(
    dumps: Dumps, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    pid = start(0, sleeping)
    os.kill(pid, signal.SIGSTOP)
    taken: list[str] = []
    dumps.ask(0, pid, "worker 7", taken.append)
    turned(dumps, lambda: "did not write" in caplog.text, 2 * PATIENCE + 3)
    os.kill(pid, signal.SIGCONT)
    assert taken == []


def computing(begun: Callable[[], object]) -> None:
    """Frames come and go all the time: in a C call's keys, in generators, in code that is made and thrown away."""

    def compute(depth: int) -> int:
        return 0 if depth == 0 else 1 + compute(depth - 1)

    def compute_on() -> None:
        while True:
            sorted((json.dumps([each]) for each in range(20)), key=lambda text: len(text))
            compute(300)
            exec("def made(): return [each for each in range(3)]\nmade()")

    for _ in range(3):
        threading.Thread(target=compute_on, daemon=True).start()
    begun()
    time.sleep(60)


def test_a_busy_process_survives_it(dumps: Dumps, start: Start) -> None:
    """Read by a signal handler, the stacks of threads that run kill their process: within five of these signals."""
    taken: list[str] = []
    pid = start(0, computing)
    for asked in range(1, 51):
        dumps.ask(0, pid, "worker 7", taken.append, quietly=True)
        turned(dumps, lambda asked=asked: len(taken) >= asked)
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    assert "in computing" in taken[-1] and len(stacks.parse(taken[-1])) == 4


def test_one_in_which_nobody_gets_to_run_python_is_read_all_the_same(dumps: Dumps, start: Start) -> None:
    def keeping_the_lock(begun: Callable[[], object]) -> None:
        begun()
        ctypes.PyDLL(None).sleep(60)

    taken: list[str] = []
    dumps.ask(0, start(0, keeping_the_lock), "worker 7", taken.append)
    turned(dumps, lambda: taken)
    assert "in keeping_the_lock" in taken[0]


def test_one_whose_main_thread_is_in_a_c_call_is_answered_for_by_another(
    dumps: Dumps, start: Start, spool: Spool, board: Board
) -> None:
    """It is not insisted on: what other threads run may be Python."""

    def deaf(begun: Callable[[], object]) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})
        writer = board.writer(0)
        LoopWatch(
            Claims(1), lambda: False, lambda: dump_instead(spool.file(0), writer.stacks_asked_at)
        ).start()
        begun()
        time.sleep(60)

    taken: list[str] = []
    dumps.ask(0, start(0, deaf), "worker 7", taken.append)
    turned(dumps, lambda: taken)
    assert "in deaf" in taken[0] and "in _check" in taken[0]


def test_one_whose_stacks_can_not_be_written_goes_on(start: Start, spool: Spool) -> None:
    def unable(begun: Callable[[], object]) -> None:
        os.close(spool.file(0))
        asyncio.run(on_a_loop(begun))

    async def on_a_loop(begun: Callable[[], object]) -> None:
        begun()
        await asyncio.sleep(60)

    pid = start(0, unable)
    for _ in range(3):
        os.kill(pid, signal.SIGUSR1)
        time.sleep(0.1)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)


def test_one_that_would_end_by_being_insisted_on_is_left_alone(
    dumps: Dumps, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker of an older version, which the supervisor has taken over."""

    def older(begun: Callable[[], object]) -> None:
        faulthandler.unregister(signal.SIGUSR2)
        signal.signal(signal.SIGUSR1, lambda number, frame: None)
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)
        begun()
        while True:
            time.sleep(60)

    pid = start(0, older)
    dumps.ask(0, pid, "worker 7")
    turned(dumps, lambda: "did not write" in caplog.text)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)


def test_a_crash_leaves_its_stacks_behind(
    dumps: Dumps, start: Start, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    def crashing(begun: Callable[[], object]) -> None:
        begun()
        os.kill(os.getpid(), signal.SIGSEGV)

    pid = start(0, crashing)
    assert os.WTERMSIG(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT).si_status) == signal.SIGSEGV  # type: ignore[union-attr]
    text = dumps.died(0)
    assert "Segmentation fault" in text and "in crashing" in text
    assert "stacks of process 0, which has died" in caplog.text
    assert dumps.died(0) == "" and spool.size(0) == 0


def test_who_has_gone_is_not_asked(dumps: Dumps, caplog: pytest.LogCaptureFixture) -> None:
    dumps.ask(0, 99_999_999, "worker 7")
    turned(dumps, lambda: "did not write" in caplog.text)


def test_at_the_end_one_waits_for_what_was_asked_but_not_for_ever(dumps: Dumps, start: Start) -> None:
    taken: list[str] = []
    silent = start(1, sleeping)
    os.kill(silent, signal.SIGSTOP)
    dumps.ask(0, start(0, sleeping), "worker 1", taken.append)
    dumps.ask(1, silent, "worker 2", taken.append)
    began = time.monotonic()
    dumps.at_once()
    assert len(taken) == 1 and time.monotonic() - began < 2


def test_a_process_keeps_its_own_file_only(spool: Spool) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            spool.keep_only(1)
            os.write(spool.file(1), b"mine")
            os.fstat(spool.files[0])
        finally:
            os._exit(3)
    os.waitpid(pid, 0)
    assert spool.take(1) == "mine" and spool.size(1) == 0
    assert spool.size(0) == 0


def test_files_are_handed_on_to_whoever_takes_the_place(spool: Spool) -> None:
    os.write(spool.file(1), b"before")
    assert Spool(2, spool.files).take(1) == "before"
