"""The skin for threads: performs the same operations on a blocking client, without any event loop."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar, cast

import redis
from redis.exceptions import NoScriptError, ResponseError

from docket import clock
from docket.store import refusals
from docket.store.connect import (
    BROKEN,
    REPLY_TIMEOUT,
    Address,
    blocking_client,
    cluster_client,
    is_outage,
    may_try_again,
    translating,
)
from docket.store.keys import raw_name
from docket.store.requests import (
    SUBSCRIBED,
    Attempt,
    Commands,
    Emit,
    InTurn,
    NextEvent,
    Operation,
    Stream,
    Together,
)
from docket.store.scripts import Call
from docket.store.topology import is_cluster
from docket.telemetry import internal

T = TypeVar("T")

_BETWEEN_TRIES = 0.2
_SLICE = 0.25
"""Seconds that a thread waits in one go. A task that shall end is interrupted between two Python instructions, and
there is none in a wait: so this is how late it hears of it."""


class BlockingPerformer:
    """Whoever can ask and listen can carry operations out."""

    address: Address

    def ask(self, request: Call | Commands) -> Any:
        raise NotImplementedError

    def listen(self, channels: tuple[str, ...]) -> Listening:
        raise NotImplementedError

    def perform(self, operation: Operation[T]) -> T:
        """Carries an operation out. ConnectionFailed or AuthenticationFailed, never a wait for ever on a dead Redis."""
        listening: Listening | None = None
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
                            listening = self.listen(request.channels)
                        reply = listening.next(request.timeout)
                    elif isinstance(request, Together):
                        reply = self._perform_together(request.operations)
                    else:
                        reply = self._answer(request)
        finally:
            if listening is not None:
                listening.close()

    def _answer(self, request: Call | Commands | InTurn | Attempt) -> Any:
        if isinstance(request, InTurn):
            return [self.ask(call) for call in request.calls]
        if isinstance(request, Attempt):
            return self._attempt(request.request)
        return self.ask(request)

    def _attempt(self, request: Call | Commands) -> Any:
        try:
            return self.ask(request)
        except (*BROKEN, ResponseError) as error:
            if not is_outage(error):
                raise
            return None

    def _perform_together(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        with ThreadPoolExecutor(max(1, len(operations)), "docket partitions") as threads:
            # Each in a context of its own: two threads cannot be in one.
            replies = [threads.submit(copy_context().run, self.perform, each) for each in operations]
        return [reply.result() for reply in replies]

    def stream(self, stream: Stream[None]) -> Generator[Any]:
        """What a stream emits. ConnectionFailed as from `perform`."""
        listening: Listening | None = None
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
                            listening = self.listen(request.channels)
                        reply = listening.next(request.timeout)
                    elif isinstance(request, Together):
                        reply = self._perform_together(request.operations)
                    else:
                        reply = self._answer(request)
        finally:
            if listening is not None:
                listening.close()


class BlockingStore(BlockingPerformer):
    """A few connections, shared by the threads of this process."""

    def __init__(
        self, address: Address, *, connections: int = 8, traced: bool = False, **options: Any
    ) -> None:
        """`traced`: an instrumentation of redis-py, if there is one, may see what is asked."""
        self.address = address
        self._traced = traced
        self.client: Any = blocking_client(address, connections, **options)
        # Each waiting thread listens on a connection of its own; they are few, and silent until something happens.
        # The limits of time are those of the others: they are for what is asked, and to listen is to ask nothing.
        loud: Any = self.client.connection_pool
        pool: Any = cast(Any, redis.ConnectionPool)(
            loud.connection_class, max_connections=2**31, **loud.connection_kwargs
        )
        self._quiet_client: Any = redis.Redis.from_pool(pool)
        self._whole_cluster: Any = None

    def listen(self, channels: tuple[str, ...]) -> Listening:
        return Listening(self._quiet_client, channels)

    def ask(self, request: Call | Commands) -> Any:
        """One round trip; a second try if a connection turns out to be broken (Redis may have been restarted)."""
        try:
            return self._ask_patiently(request)
        except ResponseError as error:
            if refusals.is_about_permissions(error):
                raise refusals.forbidden(error) from error
            if refusals.is_about_types(error):
                if told := refusals.told(error):
                    raise told from error
                names = refusals.names_in(request)
                types = self._ask_once(refusals.types_of(names))
                raise refusals.foreign(names, types) or error from error
            raise

    def _ask_patiently(self, request: Call | Commands) -> Any:
        try:
            with internal(self._traced):
                return self._ask_once(request)
        except (*BROKEN, ResponseError) as error:
            if not may_try_again(error, repeatable=not isinstance(request, Call) or request.repeatable):
                raise
            self.client.connection_pool.disconnect(inuse_connections=False)
            with internal(self._traced):
                return self._ask_once(request)

    def _ask_once(self, request: Call | Commands) -> Any:
        if isinstance(request, Call):
            return run_script(self.client, request)
        if len(request.commands) == 1:
            return [self.client.execute_command(*_encoded(request.commands[0]))]
        pipeline = self.client.pipeline(transaction=False)
        for command in request.commands:
            pipeline.execute_command(*_encoded(command))
        return pipeline.execute()

    def plain_client(self) -> Any:
        """For users: redis-py's client as they know it; on a cluster one that finds every key, not only ours."""
        if not is_cluster(self.address.url):
            return redis.Redis(connection_pool=self.client.connection_pool)
        if self._whole_cluster is None:
            self._whole_cluster = cluster_client(redis.RedisCluster, self.address)
        return self._whole_cluster

    def close(self) -> None:
        if self._whole_cluster is not None:
            self._whole_cluster.close()
        for client in (self.client, self._quiet_client):
            client.close()
            client.connection_pool.disconnect()


class Listening:
    """One thread's subscription; comes back by itself when its connection breaks."""

    def __init__(self, client: Any, channels: tuple[str, ...]) -> None:
        self._client = client
        self._channels = channels
        self._pubsub: Any = None
        self._unconfirmed = 0

    def _connect(self) -> Any:
        self._unconfirmed = len(self._channels)
        self._pubsub = self._client.pubsub()
        self._pubsub.subscribe(*self._channels)
        return self._pubsub

    def next(self, timeout: float | None) -> tuple[str, bytes] | object | None:
        until = None if timeout is None else clock.monotonic() + timeout
        while True:
            left = _SLICE if until is None else min(_SLICE, max(0.0, until - clock.monotonic()))
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

    def _message(self, timeout: float) -> Any:
        try:
            pubsub = self._pubsub or self._connect()
            if not pubsub.connection.can_read(timeout=timeout):
                return None
            # It has begun to arrive; the rest of it may take longer than what is left of the wait.
            return pubsub.get_message(timeout=REPLY_TIMEOUT)
        except (*BROKEN, ResponseError) as error:
            if not is_outage(error):
                raise
            self.close()
            time.sleep(min(_BETWEEN_TRIES, timeout))
            return None

    def close(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            pubsub.close()


def run_script(client: Any, call: Call) -> Any:
    """By its digest; Redis forgets scripts when it restarts, then by its text."""
    try:
        return client.execute_command(*_encoded(call.by_digest))
    except NoScriptError:
        return client.execute_command(*_encoded(call.by_text))


def _encoded(arguments: Sequence[Any]) -> list[Any]:
    """hiredis refuses the surrogates that stand for bytes which are no text, though its client is told to escape them:
    and such keys others may have written."""
    return [raw_name(each) if isinstance(each, str) else each for each in arguments]
