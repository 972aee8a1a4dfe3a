"""Values that all executions of a worker share: made when first needed, closed when the worker's run ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

_LOG = logging.getLogger("docket.worker")

Open = Callable[[AsyncExitStack], Awaitable[Any]]


class SharedValues:
    """One task opens and closes them all, because a context manager may insist on leaving where it was entered."""

    def __init__(self) -> None:
        self._values: dict[Any, asyncio.Future[Any]] = {}
        self._requests: asyncio.Queue[tuple[Open, asyncio.Future[Any]] | None] = asyncio.Queue()
        self._keeper: asyncio.Task[None] | None = None
        self._stack: AsyncExitStack

    async def get(self, identity: Any, open_it: Open) -> Any:
        """The value; whatever opening it raises, for all who wait for it. The next one to ask tries again."""
        value = self._values.get(identity)
        asked_before = value is not None
        if value is None:
            value = self._values[identity] = asyncio.get_running_loop().create_future()
        try:
            if asyncio.current_task() is self._keeper:
                # One shared value needs another: waiting for its turn in the queue, the keeper would wait for itself.
                await self._open(open_it, value)
                return value.result()
            if not asked_before:
                self._request(open_it, value)
            return await asyncio.shield(value)
        except BaseException:
            # Else it is the one who waits that was cancelled, or there is another one already.
            if value.done() and self._values.get(identity) is value:
                del self._values[identity]
            raise

    async def close(self) -> None:
        """In reverse order of opening. Raises what closing raises."""
        if self._keeper is not None:
            self._requests.put_nowait(None)
            await self._keeper

    def _request(self, open_it: Open, value: asyncio.Future[Any]) -> None:
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep(), name="docket shared values")
        self._requests.put_nowait((open_it, value))

    async def _keep(self) -> None:
        while not await self._kept():
            pass

    async def _kept(self) -> bool:
        """True when they were to be closed; False if one of them has ended this task, and with it all the others,
        because what it runs in the background has failed (as a task group does): whoever asks then gets new ones."""
        closing = False
        try:
            async with AsyncExitStack() as self._stack:
                try:
                    while (request := await self._requests.get()) is not None:
                        await self._open(*request)
                    closing = True
                except BaseException:
                    self._values.clear()
                    raise
        except Exception as error:
            if closing:
                raise
            _LOG.error(
                "a shared value failed in the background; all of them are closed, and made again when needed",
                exc_info=error,
            )
        return closing

    async def _open(self, open_it: Open, value: asyncio.Future[Any]) -> None:
        if value.done():
            return
        try:
            value.set_result(await open_it(self._stack))
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _is_being_cancelled():
                value.set_exception(RuntimeError("another shared value failed in the background meanwhile"))
                value.exception()  # nobody may be waiting
                raise
            # Also what is no Exception: unheard, all who wait for the value would wait for ever.
            value.set_exception(error)


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
