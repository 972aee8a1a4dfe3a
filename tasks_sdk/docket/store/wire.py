"""One connection on which much is under way at once: sent one behind the other, answered in that order.

redis-py makes the connection (TLS, credentials, Sentinel, Cluster); then its transport is taken over. redis-py's
own way gives each call a connection to itself, and costs the loop five times as much: most of what an `add` costs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, cast

import hiredis
from redis.connection import DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError

from docket import clock
from docket.store.finding import UNEASY_AFTER, left_behind
from docket.store.gathering import all_of
from docket.store.keys import raw_name

_NOTHING_YET = object()
_SOON = 0.00025
"""Seconds within which a reply is waited for awake."""
_pack: Callable[[tuple[str | bytes | int | float, ...]], bytes] = cast(Any, hiredis).pack_command


Part = str | bytes | int | float


def pack(*parts: Part) -> bytes:
    """One command, as it is sent."""
    try:
        return _pack(parts)
    except (
        UnicodeEncodeError
    ):  # surrogates, which stand for bytes that are no text: such keys others may have written
        return _pack(tuple(map(_escaped, parts)))


def _escaped(part: Part) -> bytes | int | float:
    return raw_name(part) if isinstance(part, str) else part


class Wire(asyncio.Protocol):
    """Open from `open` until `lost`. `patience`: seconds of silence, with a reply due, after which it is given up."""

    def __init__(
        self, connection: Any, patience: float, *, wakeful: bool = False, uneasy: bool = False
    ) -> None:
        """`uneasy`: silent with a reply due, it is given up as soon as another server is known to have taken over, too.

        `wakeful`: to fall asleep and be woken takes as long as a Redis nearby takes to answer, and leaves the
        processor's caches cold. So for whoever asks one thing at a time, and was answered soon the last time, the loop
        turns until the reply is there. That makes an add a third shorter, and costs about as much of the processor."""
        self._connection, self._patience = connection, patience
        self._has_moved: Callable[[], Coroutine[Any, Any, bool]] | None = (
            getattr(connection, "has_moved", None) if uneasy else None
        )
        self._look_after = patience if self._has_moved is None else min(patience, UNEASY_AFTER)
        self._inquiry: asyncio.Task[None] | None = None
        self._wakeful = wakeful
        self._asked_at = 0.0
        self._answers_soon = False
        # Its class of error for each reply that is one, as its own clients raise them.
        self._replies = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=cast(Any, DefaultParser).parse_error,
            notEnoughData=_NOTHING_YET,
        )
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._heard_at = 0.0
        self._watchdog: asyncio.TimerHandle | None = None
        self._retired = False
        self.lost = False

    async def open(self) -> None:
        """Raises as redis-py's `connect` does."""
        try:
            await self._connection.connect()
        except BaseException:
            await self._connection.disconnect(nowait=True)
            raise
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = self._connection._writer.transport
        self._streams: Any = self._transport.get_protocol()
        self._transport.set_protocol(self)

    async def ask(self, command: bytes) -> Any:
        """The reply to this command. If whoever asks is cancelled, it is carried out nevertheless."""
        (reply,) = self._send(command, 1)
        return await reply

    async def ask_all(self, commands: Sequence[bytes]) -> list[Any]:
        """The replies to these commands. If some are errors, the first is raised, when all have been carried out."""
        replies = self._send(b"".join(commands), len(commands))
        return await all_of(replies)

    async def ask_each(self, commands: Sequence[bytes]) -> list[Any]:
        """What came of each of these commands, errors among it."""
        return await asyncio.gather(*self._send(b"".join(commands), len(commands)), return_exceptions=True)

    def _send(self, commands: bytes, count: int) -> list[asyncio.Future[Any]]:
        if self.lost:
            raise RedisConnectionError("the connection was lost")
        alone = not self._waiting
        if alone:
            self._asked_at = self._heard_at = clock.monotonic()
            if self._watchdog is None:
                self._watchdog = self._loop.call_later(self._look_after, self._look)
        replies = [self._loop.create_future() for _ in range(count)]
        self._waiting += replies
        self._transport.write(commands)
        if alone and self._wakeful and self._answers_soon:
            self._loop.call_soon(self._stay_awake)
        return replies

    def _stay_awake(self) -> None:
        # Whoever asks something else meanwhile keeps the loop awake as it is.
        if len(self._waiting) == 1 and clock.monotonic() - self._asked_at < _SOON:
            self._loop.call_soon(self._stay_awake)

    def data_received(self, data: bytes) -> None:
        self._heard_at = clock.monotonic()
        if len(self._waiting) == 1:
            self._answers_soon = self._heard_at - self._asked_at < _SOON
        self._replies.feed(data)
        try:
            while (reply := self._replies.gets()) is not _NOTHING_YET:
                future = self._waiting.popleft()
                if future.done():
                    continue  # whoever asked was cancelled
                if isinstance(reply, Exception):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        except (RedisError, IndexError) as error:  # what came is no reply, or nobody has asked for it
            self._break(RedisConnectionError(f"the server does not speak Redis's protocol: {error}"))
        if self._retired and not self._waiting:
            self.close()

    def _look(self) -> None:
        """One timer for all that is asked, because one for each costs more than what is asked."""
        self._watchdog = None
        if not self._waiting:
            return
        silent = clock.monotonic() - self._heard_at
        if silent >= self._patience:
            self._break(TimeoutError(f"no reply for {self._patience:g} s"))
            return
        delay = self._look_after - silent
        if delay <= 0 and self._has_moved is not None:
            delay = min(self._look_after, self._patience - silent)
            self._inquiry = self._inquiry or self._loop.create_task(self._inquire(self._has_moved))
        self._watchdog = self._loop.call_later(delay, self._look)

    async def _inquire(self, has_moved: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        try:
            elsewhere = await has_moved()
        finally:
            self._inquiry = None
        if elsewhere and not self.lost:
            self._break(left_behind(self._connection.host, self._connection.port))

    def _break(self, error: Exception) -> None:
        self._give_up(error)
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._give_up(RedisConnectionError(f"the connection was lost: {exc or 'closed by the server'}"))
        self._streams.connection_lost(exc)
        self._let_go()

    def _give_up(self, error: Exception) -> None:
        self.lost = True
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        if self._inquiry is not None:
            self._inquiry.cancel()
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(type(error)(*error.args))

    def retire(self) -> None:
        """Closed as soon as what is under way has been answered; nobody else should ask."""
        self._retired = True
        if not self._waiting:
            self.close()

    def close(self) -> None:
        """What is under way fails."""
        self._give_up(RedisConnectionError("the connection was closed"))
        self._transport.close()
        self._let_go()

    def _let_go(self) -> None:
        """redis-py's connection would report itself as left open, from wherever it is collected."""
        self._connection._writer = self._connection._reader = None
