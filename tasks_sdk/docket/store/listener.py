"""One subscription connection for everybody in an event loop who waits for events, however many they are."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from redis.exceptions import RedisError

from docket.store.connect import BROKEN
from docket.store.requests import SUBSCRIBED

_BETWEEN_TRIES = 0.2


class Subscription:
    """The messages of some channels since they were subscribed to, in order."""

    def __init__(self, listener: Listener, channels: tuple[str, ...]) -> None:
        self._listener = listener
        self.channels = channels
        self._queue: asyncio.Queue[tuple[str, bytes] | object] = asyncio.Queue()

    def put(self, item: tuple[str, bytes] | object) -> None:
        self._queue.put_nowait(item)

    async def next(self, timeout: float | None = None) -> tuple[str, bytes] | object | None:
        """A `(channel, message)`; `SUBSCRIBED` after every (re)connection, when messages may have been missed; None
        when `timeout` seconds have passed."""
        if not self._queue.empty():
            return self._queue.get_nowait()
        try:
            async with asyncio.timeout(timeout):
                return await self._queue.get()
        except TimeoutError:
            return None

    async def close(self) -> None:
        await self._listener.leave(self)


class Listener:
    """Runs a reader only while somebody listens; comes back by itself when the connection breaks."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._listening: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._confirmed: set[str] = set()
        self._pubsub: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()

    async def subscribe(self, channels: Iterable[str]) -> Subscription:
        """Returns at once; the subscription's first item is `SUBSCRIBED`, when Redis has confirmed."""
        subscription = Subscription(self, tuple(channels))
        fresh = [channel for channel in subscription.channels if not self._listening[channel]]
        for channel in subscription.channels:
            self._listening[channel].add(subscription)
        if self._reader is None:
            self._reader = asyncio.create_task(self._read(), name="docket listener")
        elif fresh:
            await self._send("subscribe", fresh)
        if all(channel in self._confirmed for channel in subscription.channels):
            subscription.put(SUBSCRIBED)
        return subscription

    async def leave(self, subscription: Subscription) -> None:
        abandoned: list[str] = []
        for channel in subscription.channels:
            listening = self._listening[channel]
            listening.discard(subscription)
            if not listening:
                del self._listening[channel]
                self._confirmed.discard(channel)
                abandoned.append(channel)
        if abandoned and self._listening:
            await self._send("unsubscribe", abandoned)
        elif not self._listening:
            await self.close()

    async def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        await self._drop()

    async def _send(self, verb: str, channels: list[str]) -> None:
        async with self._sending:
            if self._pubsub is None:
                return
            try:
                await getattr(self._pubsub, verb)(*channels)
            except BROKEN:
                pass  # the reader meets the same error and connects anew, with all channels

    async def _drop(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        self._confirmed.clear()
        if pubsub is not None:
            try:
                await pubsub.aclose()
            except BROKEN:
                pass

    async def _read(self) -> None:
        while True:
            try:
                pubsub = self._client.pubsub()
                async with self._sending:
                    await pubsub.subscribe(*self._listening)
                    self._pubsub = pubsub
                while True:
                    message = await pubsub.get_message(timeout=None)
                    if message is not None:
                        self._dispatch(message)
            except (RedisError, OSError):
                await self._drop()
                await asyncio.sleep(_BETWEEN_TRIES)

    def _dispatch(self, message: dict[str, Any]) -> None:
        channel = message["channel"].decode()
        listening = self._listening.get(channel, ())
        if message["type"] == "message":
            for subscription in listening:
                subscription.put((channel, message["data"]))
        elif message["type"] == "subscribe":
            self._confirmed.add(channel)
            for subscription in listening:
                if all(each in self._confirmed for each in subscription.channels):
                    subscription.put(SUBSCRIBED)
