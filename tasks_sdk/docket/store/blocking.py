"""The skin for threads: performs the same operations on a blocking client, without any event loop."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, TypeVar, cast

import redis
from redis.exceptions import NoScriptError

from docket import clock
from docket.errors import AuthenticationFailed
from docket.store.connect import BROKEN, Address, blocking_client, is_final, translated, translating
from docket.store.requests import SUBSCRIBED, Attempt, Commands, Emit, NextEvent, Operation, Stream
from docket.store.scripts import Call
from docket.telemetry import internal

T = TypeVar("T")

_BETWEEN_TRIES = 0.2


class BlockingStore:
    """A few connections, shared by the threads of this process."""

    def __init__(
        self, address: Address, *, connections: int = 8, traced: bool = False, **options: Any
    ) -> None:
        """`traced`: an instrumentation of redis-py, if there is one, may see what is asked."""
        self.address = address
        self._traced = traced
        self.client: Any = blocking_client(address, connections, **options)
        # Each waiting thread listens on a connection of its own; they are few, and silent until something happens.
        kwargs = {**self.client.connection_pool.connection_kwargs, "socket_timeout": None}
        kwargs["max_connections"] = 2**31
        pool: Any = cast(Any, redis.ConnectionPool).from_url(address.url, **kwargs)
        self._quiet_client: Any = redis.Redis.from_pool(pool)

    def perform(self, operation: Operation[T]) -> T:
        """Carries an operation out. ConnectionFailed or AuthenticationFailed, never a wait for ever on a dead Redis."""
        listening: _Listening | None = None
        reply: Any = None
        try:
            while True:
                # Outside of `translating`: what an operation raises may be a task's own OSError, and must stay it.
                try:
                    request = operation.send(reply)
                except StopIteration as stop:
                    return stop.value
                with translating(self.address.url):
                    if isinstance(request, NextEvent):
                        if listening is None:
                            listening = _Listening(self._quiet_client, request.channels)
                        reply = listening.next(request.timeout)
                    else:
                        reply = self.ask(request)
        finally:
            if listening is not None:
                listening.close()

    def stream(self, stream: Stream[None]) -> Generator[Any]:
        """What a stream emits. ConnectionFailed as from `perform`."""
        listening: _Listening | None = None
        reply: Any = None
        try:
            while True:
                try:
                    request = stream.send(reply)
                except StopIteration:
                    return
                reply = None
                if isinstance(request, Emit):
                    yield request.item
                    continue
                with translating(self.address.url):
                    if isinstance(request, NextEvent):
                        if listening is None:
                            listening = _Listening(self._quiet_client, request.channels)
                        reply = listening.next(request.timeout)
                    elif isinstance(request, Attempt):
                        try:
                            reply = self.ask(request.call)
                        except BROKEN as error:
                            if isinstance(translated(error, self.address.url), AuthenticationFailed):
                                raise
                    else:
                        reply = self.ask(request)
        finally:
            if listening is not None:
                listening.close()

    def ask(self, request: Call | Commands) -> Any:
        """One round trip; a second try if a connection turns out to be broken (Redis may have been restarted)."""
        try:
            with internal(self._traced):
                return self._ask_once(request)
        except BROKEN as error:
            if is_final(error) or (isinstance(request, Call) and not request.repeatable):
                raise
            self.client.connection_pool.disconnect(inuse_connections=False)
            with internal(self._traced):
                return self._ask_once(request)

    def _ask_once(self, request: Call | Commands) -> Any:
        if isinstance(request, Call):
            return run_script(self.client, request)
        if len(request.commands) == 1:
            return [self.client.execute_command(*request.commands[0])]
        pipeline = self.client.pipeline(transaction=False)
        for command in request.commands:
            pipeline.execute_command(*command)
        return pipeline.execute()

    def close(self) -> None:
        for client in (self.client, self._quiet_client):
            client.close()
            client.connection_pool.disconnect()


class _Listening:
    """One thread's subscription; comes back by itself when its connection breaks."""

    def __init__(self, client: Any, channels: tuple[str, ...]) -> None:
        self._client = client
        self._channels = channels
        self._pubsub: Any = None
        self._unconfirmed = 0
        self._connect()

    def _connect(self) -> Any:
        self._unconfirmed = len(self._channels)
        self._pubsub = self._client.pubsub()
        self._pubsub.subscribe(*self._channels)
        return self._pubsub

    def next(self, timeout: float | None) -> tuple[str, bytes] | object | None:
        until = None if timeout is None else clock.monotonic() + timeout
        while True:
            left = None if until is None else max(0.0, until - clock.monotonic())
            message = self._message(left)
            if message is None:
                if until is not None and clock.monotonic() >= until:
                    return None
            elif message["type"] == "message":
                return message["channel"].decode(), message["data"]
            elif message["type"] == "subscribe":
                self._unconfirmed -= 1
                if self._unconfirmed == 0:
                    return SUBSCRIBED

    def _message(self, timeout: float | None) -> Any:
        try:
            return (self._pubsub or self._connect()).get_message(timeout=timeout)
        except BROKEN:
            self.close()
            time.sleep(_BETWEEN_TRIES if timeout is None else min(_BETWEEN_TRIES, timeout))
            return None

    def close(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            pubsub.close()


def run_script(client: Any, call: Call) -> Any:
    """By its digest; Redis forgets scripts when it restarts, then by its text."""
    try:
        return client.execute_command("EVALSHA", call.script.sha, 1, call.stream, *call.arguments)
    except NoScriptError:
        return client.execute_command("EVAL", call.script.source, 1, call.stream, *call.arguments)
