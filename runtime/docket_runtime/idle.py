"""Waiting for work without asking for it: one blocked read on a connection of its own.

Redis wakes exactly one of the blocked workers for a new entry, so a burst does not stampede the fleet. Right behind the
read waits the script that claims what it brings: Redis carries it out as soon as the read is over, and not a round trip
later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from redis.exceptions import NoScriptError, RedisError, ResponseError

from docket.store import refusals, scripts
from docket.store.asynchronous import AsyncStore
from docket.store.keys import GROUP, Keys, name_in
from docket.store.wire import Wire, pack
from docket.telemetry import internal
from docket_runtime.exchange import Exchange
from docket_runtime.outage import Outage
from docket_runtime.rounds import Brought

_BLOCK_MS = 10_000
_ONE = ("COUNT", 1, "BLOCK", _BLOCK_MS)
_BETWEEN_UNBLOCKS = 0.005
_BEYOND = 10.0
"""Seconds past the block after which a silent Redis counts as lost."""
_PATIENCE = _BLOCK_MS / 1000 + _BEYOND


class IdleReader:
    """Blocks while the exchange is hungry; every entry it is given goes to the exchange."""

    def __init__(self, store: AsyncStore, keys: Keys, exchange: Exchange, outage: Outage) -> None:
        self._store, self._keys, self._exchange, self._outage = store, keys, exchange, outage
        self._wire: Wire | None = None
        self._client_id: int | None = None
        self._script_is_known = True
        self.worker_id = ""

    async def run(self) -> None:
        while True:
            await self._exchange.hungry.wait()
            if not self._exchange.hungry.is_set():
                continue  # something else filled the slot between the call and the waking
            self._exchange.reading = True
            try:
                await self._read()
                self._outage.over()
            except (RedisError, OSError) as error:
                self.close()
                self._exchange.reconnected()
                self._exchange.reading = False
                await self._outage.wait(error)
            finally:
                self._exchange.reading = False
                self._exchange.wake()

    async def _read(self) -> None:
        wire = self._wire or await self._connect()
        worker_id, recoveries = self.worker_id, self._exchange.recoveries
        read = ("XREADGROUP", "GROUP", GROUP, worker_id, *_ONE, "STREAMS", self._keys.stream, ">")
        call = scripts.accept(self._keys, worker_id, self._exchange.latest)
        accept = call.by_digest if self._script_is_known else call.by_text
        given, accepted = await wire.ask_each([pack(*read), pack(*accept)])
        self._script_is_known = not isinstance(accepted, NoScriptError)
        entry, key = ("", "") if isinstance(given, BaseException) else _parsed(given)
        if isinstance(accepted, list):
            brought = Brought(worker_id, entry, key, cast("list[Any]", accepted), recoveries)
            if entry or brought.reply[1]:
                self._exchange.accept(brought)
        elif not isinstance(accepted, ResponseError):
            raise accepted
        elif entry:
            self._exchange.deliver(entry, key)  # who asks again is told what is wrong
        if isinstance(given, BaseException):
            await self._refused(given)

    async def _refused(self, error: BaseException) -> None:
        if not isinstance(error, ResponseError):
            raise error
        if str(error).startswith(("NOGROUP", "UNBLOCKED")):
            self._exchange.look()  # the exchange makes the group anew
        elif refusals.is_about_types(error):
            stream = [self._keys.stream]
            types = await self._store.ask(refusals.types_of(stream))
            raise refusals.foreign(stream, types) or error from error
        else:
            raise error

    async def _connect(self) -> Wire:
        wire = Wire(self._store.client.connection_pool.make_connection(), _PATIENCE)
        await wire.open()
        self._wire = wire
        self._client_id = int(await wire.ask(pack("CLIENT", "ID")))
        return wire

    async def unblock(self) -> None:
        """Ends a blocked read without losing what it may just have been given.

        The read may be on its way and not yet blocked; then Redis knows of nothing to unblock, and is asked again.
        """
        while self._exchange.reading:
            try:
                if self._client_id is not None:
                    with internal(self._store.traced):
                        await self._store.client.execute_command("CLIENT", "UNBLOCK", self._client_id)
            except (RedisError, OSError):
                self.close()
                return
            await asyncio.sleep(_BETWEEN_UNBLOCKS)

    def close(self) -> None:
        """A read that is under way fails; the next one opens another connection."""
        wire, self._wire, self._client_id = self._wire, None, None
        if wire is not None:
            wire.close()


def _parsed(reply: Sequence[Any] | None) -> tuple[str, str]:
    """The entry that was given, and the key of its execution; empty if there is none."""
    for _, entries in reply or ():
        for entry_id, fields in entries:
            values = dict(zip(fields[::2], fields[1::2], strict=False)) if fields else {}
            return f"d:{entry_id.decode()}", name_in(values.get(b"k", b""))
    return "", ""
