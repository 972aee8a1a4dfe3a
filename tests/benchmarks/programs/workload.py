"""The tasks. Those for threads differ: pydocket runs a plain `def` on its loop, so it is given what its users write."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

from marks import Marks

import docket
from docket import ConcurrencyLimit

marks = Marks()
is_ours = hasattr(docket, "DeadLetter")


async def nothing(number: int) -> None:
    marks.mark(number)


async def rest(number: int) -> None:
    marks.mark(number)
    await asyncio.sleep(0.05)


def _compute(number: int) -> None:
    marks.mark(number)
    until = time.thread_time() + 0.010
    while time.thread_time() < until:
        pass


async def _mark_in_thread(number: int) -> None:
    await asyncio.to_thread(marks.mark, number)


async def _compute_in_thread(number: int) -> None:
    await asyncio.to_thread(_compute, number)


def _mark(number: int) -> None:
    marks.mark(number)


nothing_sync: Callable[[int], Any] = _mark if is_ours else _mark_in_thread
nothing_sync.__name__ = "nothing_sync"
compute: Callable[[int], Any] = _compute if is_ours else _compute_in_thread
compute.__name__ = "compute"


async def limited_nothing(number: int, limit: ConcurrencyLimit = ConcurrencyLimit(max_concurrent=50)) -> None:
    marks.mark(number)


async def limited_work(number: int, limit: ConcurrencyLimit = ConcurrencyLimit(max_concurrent=10)) -> None:
    marks.mark(number)
    await asyncio.sleep(0.005)


async def held_up(number: int, limit: ConcurrencyLimit = ConcurrencyLimit(max_concurrent=1)) -> None:
    await asyncio.sleep(3)


async def hold(number: int, folder: str) -> None:
    """Writes down who runs it, and runs until there is a file that says it may end."""
    with open(os.path.join(folder, f"{number}.runs"), "a") as runs:
        runs.write(f"{os.getpid()} {time.monotonic()}\n")
    while not os.path.exists(os.path.join(folder, f"{number}.go")):
        await asyncio.sleep(0.01)


tasks = [nothing, nothing_sync, rest, compute, limited_nothing, limited_work, held_up, hold]
