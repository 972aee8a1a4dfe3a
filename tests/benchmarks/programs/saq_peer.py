"""SAQ, without results: `saq saq_peer.settings`."""

from __future__ import annotations

import asyncio
from typing import Any

import peer
import uvloop
from peer import CONCURRENCY, URL, Client, marks, play
from redis.asyncio import Redis
from saq.queue.redis import RedisQueue

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
queue = RedisQueue(Redis.from_url(URL), max_concurrent_ops=100)


async def nothing(context: dict[str, Any], *, number: int) -> None:
    marks.mark(number)


async def rest(context: dict[str, Any], *, number: int) -> None:
    await peer.rest(number)


def nothing_sync(context: dict[str, Any], *, number: int) -> None:
    marks.mark(number)


def compute(context: dict[str, Any], *, number: int) -> None:
    peer.compute(number)


settings = {
    "queue": queue,
    "functions": [nothing, rest, nothing_sync, compute],
    "concurrency": CONCURRENCY,
}


class Saq(Client):
    def open(self) -> Any:
        return queue.connect()

    def add(self, task: str, number: int) -> Any:
        return queue.enqueue(task, number=number, ttl=-1)

    def plan(self, number: int, moment: float) -> Any:
        return queue.enqueue("nothing", number=number, ttl=-1, scheduled=moment)


if __name__ == "__main__":
    play(Saq())
