"""A fork after which the child is nobody's accident: signals, streams and file descriptors as if freshly started."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
import traceback
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import NoReturn, Protocol

from docket_supervisor.codes import ExitCode
from docket_supervisor.environment import withhold

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
UNFORKABLE_PAUSE = 1.0
"""Seconds until a fork is tried again that failed for want of memory or pids."""

_PID = struct.Struct("@q")


class Closeable(Protocol):
    def close(self) -> None: ...


@contextmanager
def signals_blocked() -> Generator[None, None, None]:
    """No handler runs inside, in this process or in one forked inside."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def fork(main: Callable[[], int], *, closing: Iterable[Closeable] = ()) -> int:
    """The pid of a new child that runs `main` and leaves with what it returns, without ever coming back here.

    `closing` is what belongs to the parent alone: a child that kept the write end of somebody's pipe would keep its
    reader waiting after the parent's death.
    """
    with signals_blocked():
        pid = os.fork()
        if pid == 0:
            _be_the_child(main, closing)
        return pid


def fork_for_reaper(main: Callable[[], int], *, closing: Iterable[Closeable] = ()) -> int:
    """The same, but the new process is a child of the nearest sub-reaper above us: we fork twice and let the middle go.

    Returns after the middle one was reaped, so that by then the process has its new parent.
    """
    reader, writer = os.pipe()
    try:
        try:
            with signals_blocked():
                middle = os.fork()
                if middle == 0:
                    _be_the_middle(main, closing, reader, writer)
        finally:
            os.close(writer)
        told = os.read(reader, _PID.size)
    finally:
        os.close(reader)
    os.waitpid(middle, 0)
    if len(told) < _PID.size:
        raise OSError("could not fork: the process between us and the worker failed")
    return _PID.unpack(told)[0]


def become_subreaper() -> bool:
    """True if orphaned descendants become our children from now on (Linux)."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> bool:
    """True if the kernel kills this process when its parent dies (Linux); for children that hold nothing."""
    return _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(operation: int, argument: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return libc.prctl(operation, argument, 0, 0, 0) == 0
    except (OSError, AttributeError):
        return False


def _be_the_middle(
    main: Callable[[], int], closing: Iterable[Closeable], reader: int, writer: int
) -> NoReturn:
    # Not one exception may escape: above this frame is the parent's code, which would then run twice.
    code = 1
    try:
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            os.close(writer)
            _be_the_child(main, closing)
        os.write(writer, _PID.pack(pid))
        code = 0
    finally:
        os._exit(code)


def _be_the_child(main: Callable[[], int], closing: Iterable[Closeable]) -> NoReturn:
    code = int(ExitCode.BUG)
    try:
        _reset_signals()
        for theirs in closing:
            theirs.close()
        _detach_input()
        withhold()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        code = main()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(ExitCode.BUG)
    except BaseException:
        traceback.print_exc()
    finally:
        # Threads of tasks may still run and are not to be waited for; nor may atexit handlers of the parent run here.
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _reset_signals() -> None:
    """Defaults everywhere, except that the terminal's INT is left to the parent, who decides for all.

    A Python handler for INT rather than SIG_IGN: programs that a task starts would inherit the latter.
    """
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if signal.getsignal(number) not in (signal.SIG_DFL, signal.SIG_IGN, None):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, lambda number, frame: None)
    # Whoever asks for stacks may do so before the child can write them; that must not end it.
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, frame: None)


def _detach_input() -> None:
    """Reads of standard input come to their end: two processes cannot share a terminal's lines."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
