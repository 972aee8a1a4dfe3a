"""The stacks of this process, written down when it is asked by a signal, or when it crashes.

Stacks can only be read while nobody runs Python: a reader that does not hold the interpreter lock comes upon frames
that are being taken down, and crashes the process (python/cpython#116008; a busy one within five signals). So USR1 asks
whoever gets to run Python next: the main thread between two steps of its own, or the loop watch in its place while it
stands in a C call. If nobody does, a C call keeps the lock; nothing moves then, and USR2 has the signal handler read.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import FrameType
from typing import Any

from docket import clock
from docket.stacks import TASKS

STANDARD_ERROR = 2
_MOST = 200
"""asyncio tasks that one dump shows."""


def dump_on_request(file: int = STANDARD_ERROR) -> None:
    """From now on this descriptor gets the stacks of all threads and asyncio tasks at USR1, as soon as the main thread
    runs Python; those of the threads at USR2, at once, which is safe only while nothing runs Python; and at a crash.

    Does nothing outside the main thread, which alone may install handlers.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(faulthandler, "register"):
        return
    # Inherited from a process that we were forked from, it would be taken for installed here as well.
    faulthandler.unregister(signal.SIGUSR2)
    faulthandler.enable(file=file, all_threads=True)
    signal.signal(signal.SIGUSR1, lambda number, frame: _write(file))
    faulthandler.register(signal.SIGUSR2, file=file, all_threads=True)


def dump_instead(file: int, asked_at: float) -> None:
    """What another thread does while the main thread cannot: writes the threads' stacks if they have been asked for
    since the last time that anybody wrote them. `asked_at`: a monotonic instant; 0: nobody has asked."""
    if asked_at > _written_at:
        _write_threads(file)


_written_at = 0.0


def _write(file: int) -> None:
    _write_threads(file)
    _write_tasks(file)


def _write_threads(file: int) -> None:
    global _written_at
    _written_at = clock.monotonic()
    faulthandler.dump_traceback(file, all_threads=True)


def _write_tasks(file: int) -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    lines = [f"{TASKS}: {len(tasks)}"]
    for task in tasks[:_MOST]:
        lines.append(f"  {task.get_name()}:")
        lines += [
            f'    File "{at.f_code.co_filename}", line {at.f_lineno} in {at.f_code.co_name}'
            for at in _awaits(task)
        ]
    if len(tasks) > _MOST:
        lines.append(f"  … and {len(tasks) - _MOST} more")
    text = ("\n".join(lines) + "\n").encode(errors="replace")
    # Nobody may read them any more; that must not end whatever the main thread was doing when it was asked.
    with suppress(OSError):
        while text:
            text = text[os.write(file, text) :]


def _awaits(task: asyncio.Task[Any]) -> list[FrameType]:
    """Where each coroutine waits for the next, innermost first. `Task.get_stack` shows the outermost one only."""
    frames: list[FrameType] = []
    waiting: Coroutine[Any, Any, Any] | Any = task.get_coro()
    while waiting is not None:
        for kind in ("cr", "gi", "ag"):
            frame: FrameType | None = getattr(waiting, f"{kind}_frame", None)
            if frame is not None:
                frames.append(frame)
                waiting = getattr(waiting, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
                break
        else:
            break
    return frames[::-1]
