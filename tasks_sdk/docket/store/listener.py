"""One subscription connection for everybody in an event loop who waits for events, however many they are."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from contextvars import Context
from typing import Any

from redis.exceptions import RedisError

from docket.store.connect import REPLY_TIMEOUT
from docket.store.requests import SUBSCRIBED

_BETWEEN_TRIES = 0.2
_SILENCE = 30.0
"""Seconds without any message after which Redis is asked whether it is still there: a connection through something that
has forgotten it stays open, and is silent for ever."""
_LINGER = 1.0
"""Seconds that the connection is kept when nobody listens any more: the next one often comes at once."""


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
        """Awaits nothing: whoever leaves may be cancelled at any await, and must not take the others' events along."""
        self._listener.leave(self)


class Listener:
    """Its runner owns the connection alone; the others only change what is wanted, and wake it."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._listening: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._confirmed: set[str] = set()
        self._changed = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None

    async def subscribe(self, channels: Iterable[str]) -> Subscription:
        """Returns at once; the subscription's first item is `SUBSCRIBED`, when Redis has confirmed."""
        subscription = Subscription(self, tuple(channels))
        for channel in subscription.channels:
            self._listening[channel].add(subscription)
        if all(channel in self._confirmed for channel in subscription.channels):
            subscription.put(SUBSCRIBED)
        self._changed.set()
        if self._runner is None or self._runner.done():
            # A context of its own: it serves everybody, not only the task that happened to come first.
            self._runner = asyncio.create_task(self._run(), name="docket listener", context=Context())
        return subscription

    def leave(self, subscription: Subscription) -> None:
        for channel in subscription.channels:
            listening = self._listening[channel]
            listening.discard(subscription)
            if not listening:
                del self._listening[channel]
        self._changed.set()

    async def close(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.cancel()
            await asyncio.gather(runner, return_exceptions=True)

    async def _run(self) -> None:
        while self._listening:
            pubsub = self._client.pubsub()
            try:
                await self._serve(pubsub)
            except (RedisError, OSError):
                self._confirmed.clear()  # whoever comes now waits for the next connection
                await asyncio.sleep(_BETWEEN_TRIES)
            finally:
                self._confirmed.clear()
                await pubsub.aclose()

    async def _serve(self, pubsub: Any) -> None:
        channels = set(self._listening)
        # It connects now; listening has no limit of time, so neither has this connection.
        async with asyncio.timeout(REPLY_TIMEOUT):
            await pubsub.subscribe(*channels)
        parts = (
            asyncio.create_task(self._receive(pubsub)),
            asyncio.create_task(self._follow(pubsub, channels)),
        )
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    async def _receive(self, pubsub: Any) -> None:
        while True:
            message = await pubsub.get_message(timeout=_SILENCE) or await self._answer(pubsub)
            self._dispatch(message)

    async def _answer(self, pubsub: Any) -> dict[str, Any]:
        """Whatever comes next, when it was asked whether it is still there; TimeoutError if that is nothing."""
        async with asyncio.timeout(REPLY_TIMEOUT):
            await pubsub.ping()
        # Twice: a loop that stood still finds that its time is over before it finds what has come meanwhile.
        for _ in range(2):
            if message := await pubsub.get_message(timeout=REPLY_TIMEOUT / 2):
                return message
        raise TimeoutError("the subscriptions are silent")

    async def _follow(self, pubsub: Any, channels: set[str]) -> None:
        """Subscribes to what is wanted and no longer to what is not; returns when nobody has listened for a while."""
        while True:
            self._changed.clear()
            wanted = set(self._listening)
            fresh, abandoned = wanted - channels, channels - wanted
            if not wanted:
                try:
                    async with asyncio.timeout(_LINGER):
                        await self._changed.wait()
                    continue
                except TimeoutError:
                    return
            channels = wanted
            # Before the command is sent: whoever subscribes from here on must wait for a new confirmation.
            self._confirmed -= abandoned
            if fresh:
                await pubsub.subscribe(*fresh)
            if abandoned:
                await pubsub.unsubscribe(*abandoned)
            await self._changed.wait()

    def _dispatch(self, message: dict[str, Any]) -> None:
        if message["type"] == "pong":
            return
        channel = message["channel"].decode()
        listening = self._listening.get(channel, ())
        if message["type"] == "message":
            for subscription in tuple(listening):
                subscription.put((channel, message["data"]))
        elif message["type"] == "subscribe":
            self._confirmed.add(channel)
            for subscription in tuple(listening):
                if all(each in self._confirmed for each in subscription.channels):
                    subscription.put(SUBSCRIBED)
