"""The stacks of this process, written down when it is asked by a signal, or when it crashes."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import threading
from collections.abc import Coroutine
from types import FrameType
from typing import Any

from docket.stacks import TASKS

STANDARD_ERROR = 2
_MOST = 200
"""asyncio tasks that one dump shows."""


def dump_on_request(file: int = STANDARD_ERROR) -> None:
    """From now on USR1 writes the stacks of all threads and asyncio tasks to this descriptor, and so does a crash.

    The threads' are written by the signal handler itself, whatever blocks the interpreter; the asyncio tasks' as soon
    as the main thread gets to run Python again. Does nothing outside the main thread, which alone may install handlers.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(faulthandler, "register"):
        return
    # Inherited from a process that we were forked from, it would be taken for installed here as well.
    faulthandler.unregister(signal.SIGUSR1)
    faulthandler.enable(file=file, all_threads=True)
    signal.signal(signal.SIGUSR1, lambda number, frame: _write_tasks(file))
    # Chained to the handler just installed: first the threads, then the tasks.
    faulthandler.register(signal.SIGUSR1, file=file, all_threads=True, chain=True)


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
