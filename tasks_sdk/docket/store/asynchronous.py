"""The skin for event loops: performs operations on a `redis.asyncio` client."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from typing import Any, TypeVar

import redis.asyncio
from redis.exceptions import NoScriptError, ResponseError

from docket.processors import processors
from docket.store import refusals
from docket.store.attempts import SharedAttempt
from docket.store.connect import (
    BROKEN,
    REPLY_TIMEOUT,
    Address,
    async_client,
    cluster_client,
    is_outage,
    may_try_again,
    translating,
)
from docket.store.gathering import all_of
from docket.store.listener import Listener, Subscription
from docket.store.requests import Attempt, Commands, Emit, InTurn, NextEvent, Operation, Stream, Together
from docket.store.scripts import Call
from docket.store.topology import is_cluster
from docket.store.wire import Wire, pack

T = TypeVar("T")

_MOST_UNDER_WAY = 256
"""Requests sent and not answered: enough for any batch to grow, few enough for the next one's turn to come soon."""


class AsyncPerformer:
    """Whoever can ask and listen can carry operations out."""

    address: Address

    async def ask(self, request: Call | Commands) -> Any:
        raise NotImplementedError

    async def subscribe(self, channels: tuple[str, ...]) -> Subscription:
        raise NotImplementedError

    async def perform(self, operation: Operation[T]) -> T:
        """Carries an operation out. ConnectionFailed or AuthenticationFailed, never a wait for ever on a dead Redis."""
        subscription: Subscription | None = None
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
                        if subscription is None:
                            subscription = await self.subscribe(request.channels)
                        reply = await subscription.next(request.timeout)
                    elif isinstance(request, Together):
                        reply = await all_of(map(self.perform, request.operations))
                    else:
                        reply = await self._answer(request)
        finally:
            if subscription is not None:
                await subscription.close()

    async def stream(self, stream: Stream[None]) -> AsyncGenerator[Any]:
        """What a stream emits. ConnectionFailed as from `perform`."""
        subscription: Subscription | None = None
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
                        if subscription is None:
                            subscription = await self.subscribe(request.channels)
                        reply = await subscription.next(request.timeout)
                    elif isinstance(request, Together):
                        reply = await all_of(map(self.perform, request.operations))
                    else:
                        reply = await self._answer(request)
        finally:
            if subscription is not None:
                await subscription.close()

    async def _answer(self, request: Call | Commands | InTurn | Attempt) -> Any:
        if isinstance(request, InTurn):
            return await self._in_turn(request.calls)
        if isinstance(request, Attempt):
            return await self._attempt(request.request)
        return await self.ask(request)

    async def _attempt(self, request: Call | Commands) -> Any:
        try:
            return await self.ask(request)
        except (*BROKEN, ResponseError) as error:
            if not is_outage(error):
                raise
            return None

    async def _in_turn(self, calls: Iterable[Call]) -> list[Any]:
        """Redis carries one out while the next is put together."""
        replies: list[Any] = []
        under_way: deque[asyncio.Task[Any]] = deque()
        try:
            for call in calls:
                under_way.append(asyncio.create_task(self.ask(call)))
                await asyncio.sleep(0)  # so that it is sent before anything else is done
                if len(under_way) > 1:
                    replies.append(await under_way.popleft())
            while under_way:
                replies.append(await under_way.popleft())
            return replies
        finally:
            for each in under_way:
                each.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)


class AsyncStore(AsyncPerformer):
    """A few connections, shared by everybody in this event loop."""

    def __init__(
        self,
        address: Address,
        *,
        connections: int = 8,
        traced: bool = False,
        wakeful: bool = False,
        **options: Any,
    ) -> None:
        """`traced`: an instrumentation of redis-py, if there is one, may see what is asked. `wakeful`: as a `Wire` is,
        where there is another processor for Redis."""
        self.address = address
        self.traced = traced
        self._wakeful = wakeful and processors() > 1
        self.client: Any = async_client(address, connections, **options)
        self._free = asyncio.Semaphore(connections)
        self._quiet_client = async_client(address, 2)
        self.listener = Listener(self._quiet_client)
        self._whole_cluster: Any = None
        self._wire: Wire | None = None
        self._opening = SharedAttempt(self._open_wire)
        self._room = asyncio.Semaphore(_MOST_UNDER_WAY)

    async def subscribe(self, channels: tuple[str, ...]) -> Subscription:
        return await self.listener.subscribe(channels)

    async def ask(self, request: Call | Commands) -> Any:
        """One round trip; a second try if a connection turns out to be broken (Redis may have been restarted)."""
        try:
            return await self._ask_patiently(request)
        except ResponseError as error:
            if refusals.is_about_permissions(error):
                raise refusals.forbidden(error) from error
            if refusals.is_about_types(error):
                if told := refusals.told(error):
                    raise told from error
                names = refusals.names_in(request)
                types = await self._ask_once(refusals.types_of(names))
                raise refusals.foreign(names, types) or error from error
            raise

    async def _ask_patiently(self, request: Call | Commands) -> Any:
        try:
            return await self._ask_once(request)
        except (*BROKEN, ResponseError) as error:
            if not may_try_again(error, repeatable=not isinstance(request, Call) or request.repeatable):
                raise
            await self.client.connection_pool.disconnect(inuse_connections=False)
            self._retire_wire()
            return await self._ask_once(request)

    async def _ask_once(self, request: Call | Commands) -> Any:
        # An instrumentation of redis-py sees what its clients carry out, and nothing else.
        if not self.traced:
            async with self._room:
                return await self._run(request)
        # Our own limit of time: redis-py's is a `wait_for` around each send, and on Python 3.11 that can swallow a
        # cancellation. It begins when a connection is free, however many callers wait for one.
        async with self._free, asyncio.timeout(REPLY_TIMEOUT):
            return await self._send(request)

    async def _run(self, request: Call | Commands) -> Any:
        wire = self._wire
        if wire is None or wire.lost:
            wire = await self._opening.outcome()
        if isinstance(request, Commands):
            return await wire.ask_all([pack(*command) for command in request.commands])
        try:
            return await wire.ask(pack(*request.by_digest))
        except NoScriptError:
            return await wire.ask(pack(*request.by_text))

    async def _open_wire(self) -> Wire:
        connection = self.client.connection_pool.make_connection()
        patience = min(connection.socket_timeout or REPLY_TIMEOUT, REPLY_TIMEOUT)
        wire = Wire(connection, patience, wakeful=self._wakeful, uneasy=True)
        async with asyncio.timeout(REPLY_TIMEOUT):
            await wire.open()
        self._wire = wire
        return wire

    def _retire_wire(self) -> None:
        """What is asked next goes over another connection, and perhaps to another server."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.retire()

    async def _send(self, request: Call | Commands) -> Any:
        if isinstance(request, Call):
            return await run_script(self.client, request)
        if len(request.commands) == 1:
            return [await self.client.execute_command(*request.commands[0])]
        pipeline = self.client.pipeline(transaction=False)
        for command in request.commands:
            pipeline.execute_command(*command)
        return await pipeline.execute()

    def plain_client(self) -> Any:
        """For users: redis-py's client as they know it; on a cluster one that finds every key, not only ours."""
        if not is_cluster(self.address.url):
            return redis.asyncio.Redis(connection_pool=self.client.connection_pool)
        if self._whole_cluster is None:
            self._whole_cluster = cluster_client(redis.asyncio.RedisCluster, self.address)
        return self._whole_cluster

    async def close(self) -> None:
        await self.listener.close()
        await self._opening.close()
        if self._wire is not None:
            self._wire.close()
        if self._whole_cluster is not None:
            await self._whole_cluster.aclose()
        await self.client.aclose()
        await self.client.connection_pool.disconnect()
        await self._quiet_client.aclose()
        await self._quiet_client.connection_pool.disconnect()


async def run_script(client: Any, call: Call) -> Any:
    """By its digest; Redis forgets scripts when it restarts, then by its text."""
    try:
        return await client.execute_command(*call.by_digest)
    except NoScriptError:
        return await client.execute_command(*call.by_text)
