"""One attempt at a time, for all who want what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Generic, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError

T = TypeVar("T")


class SharedAttempt(Generic[T]):
    """One after the other they would wait for each other's failures: the tenth ten times as long as the first."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._make = make
        self._under_way: asyncio.Task[T] | None = None
        self._closed = False

    async def outcome(self) -> T:
        """What comes of the attempt that is under way, else of a new one. If it fails, it fails for all who wait;
        whoever is cancelled leaves it to the others."""
        attempt = self._under_way
        if self._closed:
            raise RedisConnectionError("the connection was closed")
        if attempt is None or attempt.done():
            # A context of its own: it serves everybody, not only the task that happened to come first.
            attempt = self._under_way = asyncio.create_task(self._make(), context=Context())
            attempt.add_done_callback(_known)
        await asyncio.wait((attempt,))
        if attempt.cancelled():
            raise RedisConnectionError("the connection was closed")
        return attempt.result()

    async def close(self) -> None:
        """What is under way fails, and so does whoever would begin again."""
        attempt, self._closed = self._under_way, True
        if attempt is not None and not attempt.done():
            attempt.cancel()
            await asyncio.wait((attempt,))


def _known(attempt: asyncio.Task[Any]) -> None:
    """Its error is not reported as one that nobody has seen: perhaps nobody waits for it any more."""
    if not attempt.cancelled():
        attempt.exception()
