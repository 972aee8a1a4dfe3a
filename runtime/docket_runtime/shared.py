"""Values that all executions of a worker share: made when first needed, closed when the worker's run ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

Open = Callable[[AsyncExitStack], Awaitable[Any]]


class SharedValues:
    """One task opens and closes them all, because a context manager may insist on leaving where it was entered."""

    def __init__(self) -> None:
        self._values: dict[Any, asyncio.Future[Any]] = {}
        self._requests: asyncio.Queue[tuple[Open, asyncio.Future[Any]] | None] = asyncio.Queue()
        self._keeper: asyncio.Task[None] | None = None

    async def get(self, identity: Any, open_it: Open) -> Any:
        """The value; whatever opening it raises, for all who wait for it. The next one to ask tries again."""
        value = self._values.get(identity)
        if value is None:
            value = self._values[identity] = asyncio.get_running_loop().create_future()
            if self._keeper is None:
                self._keeper = asyncio.create_task(self._keep(), name="docket shared values")
            self._requests.put_nowait((open_it, value))
        try:
            return await asyncio.shield(value)
        except Exception:
            self._values.pop(identity, None)
            raise

    async def close(self) -> None:
        """In reverse order of opening. Raises what closing raises."""
        if self._keeper is not None:
            self._requests.put_nowait(None)
            await self._keeper

    async def _keep(self) -> None:
        async with AsyncExitStack() as stack:
            while (request := await self._requests.get()) is not None:
                open_it, value = request
                try:
                    value.set_result(await open_it(stack))
                except Exception as error:
                    value.set_exception(error)
