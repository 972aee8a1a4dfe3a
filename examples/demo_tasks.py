"""The tasks of the demo. Each writes down when it starts and when it ends, into a file of its process's own.

So what the demo says about a run is taken from the work itself, never from the broker alone.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from docket import CurrentExecution, Execution

FOLDER = "DOCKET_DEMO_EVIDENCE"
"""The environment variable that names the folder of those files."""


@functools.cache
def _file_of(pid: int) -> int:
    path = os.path.join(os.environ[FOLDER], f"{pid}.jsonl")
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _write(event: str, execution: Execution) -> None:
    """One line in one write: a process that is killed leaves whole lines."""
    line = {
        "event": event,
        "key": execution.key,
        "pid": os.getpid(),
        "attempt": execution.attempt,
        "at": time.monotonic(),
        "wall": time.time(),
    }
    os.write(_file_of(os.getpid()), json.dumps(line).encode() + b"\n")


@contextmanager
def _written_down(execution: Execution) -> Iterator[None]:
    _write("start", execution)
    yield
    _write("end", execution)


async def fetch(seconds: float, execution: Execution = CurrentExecution()) -> None:
    """Waits on the event loop, as for an answer from the network."""
    with _written_down(execution):
        await asyncio.sleep(seconds)


def store(seconds: float, execution: Execution = CurrentExecution()) -> None:
    """Blocks a thread, as a database driver without asyncio does."""
    with _written_down(execution):
        time.sleep(seconds)


def crunch(rounds: int, execution: Execution = CurrentExecution()) -> str:
    """Computes."""
    with _written_down(execution):
        return hashlib.pbkdf2_hmac("sha256", b"docket", b"salt", rounds).hex()


async def remind(due: float, execution: Execution = CurrentExecution()) -> float:
    """Was to run at `due`, in seconds since 1970; returns how late it is."""
    with _written_down(execution):
        return time.time() - due


tasks = [fetch, store, crunch, remind]
