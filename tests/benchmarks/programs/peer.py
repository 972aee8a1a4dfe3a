"""What every peer's program shares: the tasks, where Redis is, and the roles of a client: `NAME_peer.py JSON`.

A peer's program is run by its own interpreter, and imported by the command that its project tells people to start.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from marks import Marks

URL = os.environ.get("DOCKET_BENCH_URL", "")
CONCURRENCY = int(os.environ.get("DOCKET_BENCH_CONCURRENCY", "10"))
AT_ONCE = 50
"""How many additions are under way at a time when a queue is filled and nobody looks at the clock."""

marks = Marks()
logging.disable(
    logging.INFO
)  # many write one line or two for each task, whatever level their own option says


async def nothing(number: int) -> None:
    marks.mark(number)


async def rest(number: int) -> None:
    marks.mark(number)
    await asyncio.sleep(0.05)


def nothing_sync(number: int) -> None:
    marks.mark(number)


def rest_sync(number: int) -> None:
    marks.mark(number)
    time.sleep(0.05)


def compute(number: int) -> None:
    marks.mark(number)
    until = time.thread_time() + 0.010
    while time.thread_time() < until:
        pass


def in_thread(function: Callable[[int], None]) -> Callable[..., Any]:
    """What users of a system without sync tasks write; `beside` is a context that some pass along."""

    async def call(*beside_and_number: Any) -> None:
        await asyncio.to_thread(function, beside_and_number[-1])

    call.__name__ = call.__qualname__ = function.__name__
    return call


def _say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


class Client:
    """How a peer adds tasks; whatever returns an awaitable is awaited. `bulk` only if its project has such a call."""

    def open(self) -> Any: ...

    def add(self, task: str, number: int) -> Any:
        raise NotImplementedError

    bulk: Callable[[str, int], Any] | None = None

    def plan(self, number: int, moment: float) -> Any:
        """`nothing`, or its sync form, is to start at `moment` (of the wall clock)."""
        raise NotImplementedError


async def _fill(client: Client, task: str, count: int) -> None:
    async def some(numbers: Iterator[int]) -> None:
        for number in numbers:
            await _settled(client.add(task, number))

    numbers = iter(range(count))
    await asyncio.gather(*(some(numbers) for _ in range(AT_ONCE)))


async def _enqueue(client: Client, config: dict[str, Any]) -> None:
    task, count, first = config["task"], config["count"], config.get("first", 0)
    began = time.monotonic()
    if not config["bulk"]:
        for number in range(first, first + count):
            await _settled(client.add(task, number))
    elif client.bulk is not None:
        await _settled(client.bulk(task, count))
    else:
        await _fill(client, task, count)
    _say(seconds=time.monotonic() - began)


async def _trickle(client: Client, config: dict[str, Any]) -> None:
    moments: list[float] = []
    for number in range(config["count"]):
        await asyncio.sleep(random.uniform(0.010, 0.030))
        moments.append(time.monotonic())
        await _settled(client.add(config["task"], number))
    _say(moments=moments)


async def _plan(client: Client, config: dict[str, Any]) -> None:
    first = time.time() + config["ahead"]
    to_monotonic = time.monotonic() - time.time()
    moments = [first + config["over"] * number / config["count"] for number in range(config["count"])]

    async def some(numbers: Iterator[int]) -> None:
        for number in numbers:
            await _settled(client.plan(number, moments[number]))

    numbers = iter(range(config["count"]))
    await asyncio.gather(*(some(numbers) for _ in range(AT_ONCE)))
    if time.time() > first:
        _say(late="the last of them had not been added when the first was due")
    _say(moments=[moment + to_monotonic for moment in moments])


ROLES = {"enqueue": _enqueue, "trickle": _trickle, "plan": _plan}


async def _play(client: Client, config: dict[str, Any]) -> None:
    await _settled(client.open())
    await ROLES[config["role"]](client, config)


def play(client: Client) -> None:
    """Everything that a client does; nothing that stays open is closed one by one: the process ends."""
    asyncio.run(_play(client, json.loads(sys.argv[1])))
    sys.stdout.flush()
    os._exit(0)


def at(moment: float) -> datetime:
    return datetime.fromtimestamp(moment, UTC)
