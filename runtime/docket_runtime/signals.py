"""What is called out to workers while they are busy or asleep: stop that body, look there, something is due earlier."""

from __future__ import annotations

import asyncio
from typing import cast

from redis.exceptions import RedisError

from docket.store import scripts
from docket.store.asynchronous import AsyncStore
from docket.store.keys import Keys
from docket.store.listener import Listener
from docket.store.requests import SUBSCRIBED
from docket_runtime.claims import Claims
from docket_runtime.exchange import Exchange
from docket_runtime.scheduler import Schedule

_ON_ITS_WAY = 0.02
"""Seconds for the reply to a blocked read, which nobody can tell from one that has nothing to bring yet."""


class Signals:
    """Signals are quick, and may be lost; what they say is durable elsewhere, and read after every reconnection."""

    def __init__(
        self,
        listener: Listener,
        store: AsyncStore,
        keys: Keys,
        claims: Claims,
        exchange: Exchange,
        schedule: Schedule,
    ) -> None:
        self._listener, self._store, self._keys = listener, store, keys
        self._claims, self._exchange, self._schedule = claims, exchange, schedule

    async def run(self, worker_id: str) -> None:
        subscription = await self._listener.subscribe((self._keys.signals, self._keys.signals_of(worker_id)))
        second_look: asyncio.Task[None] | None = None
        try:
            while True:
                item = await subscription.next()
                if item is SUBSCRIBED:
                    await self._catch_up()
                    if second_look is not None:
                        second_look.cancel()
                    second_look = asyncio.create_task(self._look_again(), name="docket second look")
                elif isinstance(item, tuple):
                    _, message = cast(tuple[str, bytes], item)
                    self._hear(message.decode(errors="replace"))
        finally:
            if second_look is not None:
                second_look.cancel()
            await subscription.close()

    def _hear(self, message: str) -> None:
        verb, _, operand = message.partition(":")
        if verb == "stop":
            self._claims.stop(operand)
        elif verb == "look":
            self._exchange.look(operand)
        elif verb == "due" and operand.isdigit():
            self._schedule.hear(int(operand))
            self._exchange.wake()

    async def _catch_up(self) -> None:
        """What may have been called out while nobody listened."""
        self._exchange.look()
        await self._ask_which_to_stop()

    async def _look_again(self) -> None:
        """What was claimed, and cancelled, before anybody listened may be heard of here only after the first look: the
        replies were still on their way."""
        await asyncio.sleep(_ON_ITS_WAY)
        await self._exchange.hear_what_is_under_way()
        await self._ask_which_to_stop()

    async def _ask_which_to_stop(self) -> None:
        flights = [(flight.claimed.entry, flight.claimed.key) for flight in self._claims]
        if flights:
            try:
                stopped = await self._store.ask(scripts.stops(self._keys, flights))
            except (RedisError, OSError):
                return  # the subscription meets the same outage and catches up again after it
            for entry in stopped:
                self._claims.stop(entry.decode())
