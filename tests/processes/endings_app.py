"""Tasks that end, stop or dismiss the process that they run in."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

from docket.dependencies import TaskKey
from tests.processes.evidence import note, running, wait_for


async def exit_with(status: int, key: str = TaskKey()) -> None:
    with running(key):
        os._exit(status)


def exit_in_a_thread_with(status: int, key: str = TaskKey()) -> None:
    with running(key):
        threading.Thread(target=os._exit, args=(status,)).start()
        threading.Event().wait()


async def signal_its_worker(number: int, key: str = TaskKey()) -> None:
    with running(key):
        os.kill(os.getpid(), signal.Signals(number))
        await asyncio.sleep(3600)


tasks = [exit_with, exit_in_a_thread_with, signal_its_worker, note, wait_for]
