"""What is run while things are broken: quick and slow, on the loop and in threads, failing and fine, and what kills."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from datetime import timedelta

from chaos import skew
from chaos.witness import Witness
from docket.dependencies import ConcurrencyLimit, CurrentExecution, Retry, TaskKey
from docket.execution import Execution

skew.register()

LIMITS = {"three_at_once": 3, "three_at_once_sync": 3, "one_for_long": 1}
"""How many runs of these tasks there may be at any moment, in all processes."""

FATAL = frozenset({"poison", "hang"})
"""They kill their worker whenever they are run."""

held: list[bytearray] = []


async def quick(key: str = TaskKey(), execution: Execution = CurrentExecution()) -> None:
    with Witness().running(key, "quick", execution.attempt):
        pass


def quick_sync(key: str = TaskKey(), execution: Execution = CurrentExecution()) -> None:
    with Witness().running(key, "quick_sync", execution.attempt):
        pass


async def slow(seconds: float, key: str = TaskKey(), execution: Execution = CurrentExecution()) -> None:
    with Witness().running(key, "slow", execution.attempt):
        await asyncio.sleep(seconds)


def slow_sync(seconds: float, key: str = TaskKey(), execution: Execution = CurrentExecution()) -> None:
    with Witness().running(key, "slow_sync", execution.attempt):
        time.sleep(seconds)


async def shaky(
    failures: int,
    key: str = TaskKey(),
    execution: Execution = CurrentExecution(),
    retry: Retry = Retry(attempts=10, delay=timedelta(milliseconds=100)),
) -> None:
    """Fails so many times before it does not."""
    with Witness().running(key, "shaky", execution.attempt):
        if execution.attempt <= failures:
            raise RuntimeError(f"attempt {execution.attempt} of {key} fails on purpose")


async def three_at_once(
    seconds: float, key: str = TaskKey(), limit: ConcurrencyLimit = ConcurrencyLimit(max_concurrent=3)
) -> None:
    with Witness().running(key, "three_at_once"):
        await asyncio.sleep(seconds)


def three_at_once_sync(
    seconds: float, key: str = TaskKey(), limit: ConcurrencyLimit = ConcurrencyLimit(max_concurrent=3)
) -> None:
    with Witness().running(key, "three_at_once_sync"):
        time.sleep(seconds)


async def one_for_long(
    seconds: float, key: str = TaskKey(), limit: ConcurrencyLimit = ConcurrencyLimit(max_concurrent=1)
) -> None:
    """Whoever wakes up and settles it as if it were still its own lets the next one begin too early."""
    with Witness().running(key, "one_for_long"):
        await asyncio.sleep(seconds)


async def later(due_at: float, key: str = TaskKey()) -> None:
    """Scheduled for an instant of the monotonic clock."""
    with Witness().running(key, "later", due_at=due_at):
        pass


async def newest(version: int, seconds: float, key: str = TaskKey()) -> None:
    """Replaced again and again, each time with the next version."""
    with Witness().running(key, "newest", version=version):
        await asyncio.sleep(seconds)


async def block(seconds: float, key: str = TaskKey()) -> None:
    """What a careless `async def` does: meanwhile its loop does not turn."""
    with Witness().running(key, "block"):
        time.sleep(seconds)  # noqa: ASYNC251


async def hang(key: str = TaskKey()) -> None:
    with Witness().running(key, "hang"):
        time.sleep(3600)  # noqa: ASYNC251


def poison(how: str, key: str = TaskKey()) -> None:
    with Witness().running(key, "poison"):
        if how == "exit":
            os._exit(3)
        os.kill(os.getpid(), signal.Signals[how])
        time.sleep(10)


def exhaust(megabytes: int, key: str = TaskKey(), execution: Execution = CurrentExecution()) -> None:
    """Takes more and more memory until it is killed for it, as the kernel does it; when it is run again, the input is
    a smaller one."""
    with Witness().running(key, "exhaust"):
        if not execution.redelivered:
            hoard = [bytearray(b"x" * (1 << 20)) for _ in range(megabytes)]
            os.kill(os.getpid(), signal.SIGKILL)
            hoard.clear()


def leak(megabytes: int, key: str = TaskKey()) -> None:
    """Keeps memory for as long as the process lives."""
    with Witness().running(key, "leak"):
        held.append(bytearray(b"x" * (megabytes << 20)))


tasks = [
    *(quick, quick_sync, slow, slow_sync, shaky),
    *(three_at_once, three_at_once_sync, one_for_long, later, newest),
    *(block, hang, poison, exhaust, leak),
]
