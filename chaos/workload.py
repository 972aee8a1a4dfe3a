"""What is run while things are broken: quick and slow, on the loop and in threads, failing and fine."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from chaos.witness import Witness
from docket.dependencies import CurrentExecution, Retry, TaskKey
from docket.execution import Execution


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


tasks = [quick, quick_sync, slow, slow_sync, shaky]
