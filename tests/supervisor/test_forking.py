"""A forked child starts as if nothing had been before it, and never comes back into its parent's code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import psutil
import pytest

from docket_supervisor.forking import fork, fork_for_reaper
from docket_supervisor.lifeline import Lifeline


def ending_of(main: Callable[[], int]) -> int:
    """The wait status of a child that runs `main`."""
    return os.waitpid(fork(main), 0)[1]


def answer_of(main: Callable[[], str]) -> str:
    """What a child says."""
    reader, writer = os.pipe()

    def child() -> int:
        os.write(writer, main().encode())
        return 0

    pid = fork(child)
    os.close(writer)
    with open(reader) as answer:
        said = answer.read()
    assert os.waitpid(pid, 0)[1] == 0
    return said


def raising(error: BaseException) -> int:
    raise error


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_child_leaves_with_what_its_main_returns() -> None:
    assert os.waitstatus_to_exitcode(ending_of(lambda: 0)) == 0
    assert os.waitstatus_to_exitcode(ending_of(lambda: 7)) == 7


def test_a_child_that_raises_leaves_with_1_and_its_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    assert os.waitstatus_to_exitcode(ending_of(lambda: raising(RuntimeError("why")))) == 1
    assert "RuntimeError: why" in capfd.readouterr().err


def test_a_child_that_calls_exit_leaves_with_that() -> None:
    assert os.waitstatus_to_exitcode(ending_of(lambda: raising(SystemExit(3)))) == 3
    assert os.waitstatus_to_exitcode(ending_of(lambda: raising(SystemExit("text")))) == 1


def test_inherited_handlers_and_masks_are_reset(handlers: None) -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.signal(signal.SIGALRM, lambda number, frame: None)

    def child() -> str:
        kept = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)]
        return f"{kept == [signal.SIG_DFL] * 2} {signal.pthread_sigmask(signal.SIG_BLOCK, ())}"

    assert answer_of(child) == "True set()"
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def test_a_child_that_is_asked_for_its_stacks_too_early_lives_on() -> None:
    def child() -> str:
        os.kill(os.getpid(), signal.SIGUSR1)
        return "alive"

    assert answer_of(child) == "alive"


def test_the_terminals_interrupt_is_left_to_the_parent_but_not_kept_from_programs() -> None:
    def child() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        program = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout

    assert answer_of(child) == "True\n"


def test_standard_input_is_at_its_end() -> None:
    assert answer_of(lambda: repr(os.read(0, 1))) == "b''"


def test_what_belongs_to_the_parent_alone_is_closed() -> None:
    lifeline = Lifeline()
    reader, writer = os.pipe()

    def child() -> int:
        os.close(writer)
        os.read(reader, 1)
        return int(lifeline.severed)

    pid = fork(child, closing=(lifeline,))
    assert not lifeline.severed
    lifeline.close()
    os.close(writer)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert lifeline.severed
    os.close(reader)


def test_a_fork_that_fails_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again every second, for as long as there are too many processes."""

    def refused() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refused)
    before = psutil.Process().num_fds()
    for _ in range(3):
        with pytest.raises(OSError, match="unavailable"):
            fork_for_reaper(lambda: 0)
    assert psutil.Process().num_fds() == before


def test_a_fork_for_the_reaper_is_no_child_of_ours() -> None:
    reader, writer = os.pipe()

    def grandchild() -> int:
        os.write(writer, f"{os.getpid()} {os.getppid()}".encode())
        return 0

    pid = fork_for_reaper(grandchild)
    os.close(writer)
    with open(reader) as answer:
        said = answer.read().split()
    assert int(said[0]) == pid
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)
