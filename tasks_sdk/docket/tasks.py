"""Small tasks that every docket knows: to mark a moment, to try an alarm, to make load."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from docket.dependencies import Retry, TaskLogger


async def trace(message: str, logger: logging.LoggerAdapter[logging.Logger] = TaskLogger()) -> None:
    """Logs the message."""
    logger.info(message)


async def fail(
    message: str,
    retry: Retry = Retry(attempts=2, delay=timedelta(0)),
) -> None:
    """Raises an exception with the message, on both of its attempts."""
    raise Exception(message)


async def sleep(seconds: float, logger: logging.LoggerAdapter[logging.Logger] = TaskLogger()) -> None:
    """Waits, without holding anything but a slot."""
    logger.info("sleeping for %s seconds", seconds)
    await asyncio.sleep(seconds)


standard_tasks = [trace, fail, sleep]
