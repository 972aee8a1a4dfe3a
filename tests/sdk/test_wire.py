"""When a loop stays awake for a reply, and when it sleeps."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from docket.store import wire as wires
from docket.store.wire import Wire

SOON, LONG = 0.05, 0.1


@pytest.fixture(autouse=True)
def _slower_than_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wires, "_SOON", SOON)


class Peer:
    """A connection of redis-py as far as a wire needs one, and the transport below it."""

    def __init__(self) -> None:
        self._writer = SimpleNamespace(transport=self)

    async def connect(self) -> None: ...

    def get_protocol(self) -> Any:
        return SimpleNamespace()

    def set_protocol(self, protocol: Any) -> None: ...

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class Watched(Wire):
    turns = 0

    def _stay_awake(self) -> None:
        self.turns += 1
        super()._stay_awake()


async def opened(*, wakeful: bool = True) -> Watched:
    wire = Watched(Peer(), 5.0, wakeful=wakeful)
    await wire.open()
    return wire


async def asked(wire: Watched, after: float = 0.0, times: int = 1) -> int:
    """How often the loop turned for the replies, which come `after` so many seconds."""
    wire.turns = 0
    replies = [asyncio.ensure_future(wire.ask(b"PING")) for _ in range(times)]
    until = time.monotonic() + after
    for _ in range(3):
        await asyncio.sleep(0)
    while time.monotonic() < until:
        await asyncio.sleep(0)
    turns = wire.turns
    wire.data_received(b"+PONG\r\n" * times)
    assert await asyncio.gather(*replies) == [b"PONG"] * times
    await asyncio.sleep(0.001)
    assert wire.turns - turns <= 1, "it went on although the reply was there"
    return turns


async def test_it_stays_awake_for_one_that_was_answered_soon_before() -> None:
    wire = await opened()
    assert await asked(wire) == 0
    assert await asked(wire) > 0
    assert await asked(wire) > 0
    wire.close()


async def test_it_gives_up_and_sleeps_the_next_time_where_replies_take_long() -> None:
    wire = await opened()
    await asked(wire)
    turns = await asked(wire, after=LONG)
    assert turns > 0
    wire.turns = 0
    assert await asked(wire, after=LONG) == 0
    assert await asked(wire) == 0
    assert await asked(wire) > 0
    wire.close()


async def test_it_ends_before_the_reply_if_that_takes_long() -> None:
    wire = await opened()
    await asked(wire)
    reply = asyncio.ensure_future(wire.ask(b"PING"))
    await asyncio.sleep(LONG)
    turns = wire.turns
    await asyncio.sleep(LONG)
    assert wire.turns == turns
    wire.data_received(b"+PONG\r\n")
    assert await reply == b"PONG"
    wire.close()


async def test_who_asks_several_things_at_once_keeps_the_loop_awake_as_it_is() -> None:
    wire = await opened()
    await asked(wire)
    assert await asked(wire, times=5) <= 1
    wire.close()


async def test_one_that_is_not_wakeful_sleeps() -> None:
    wire = await opened(wakeful=False)
    for _ in range(3):
        assert await asked(wire) == 0
    wire.close()
