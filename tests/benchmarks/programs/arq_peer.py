"""arq, without results: `arq arq_peer.WorkerSettings`."""

from __future__ import annotations

import asyncio
from typing import Any

import peer
import uvloop
from arq import create_pool
from arq.connections import RedisSettings
from peer import CONCURRENCY, URL, Client, at, in_thread, marks, play

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
redis_settings = RedisSettings.from_dsn(URL)


async def nothing(context: dict[str, Any], number: int) -> None:
    marks.mark(number)


async def rest(context: dict[str, Any], number: int) -> None:
    await peer.rest(number)


class WorkerSettings:
    redis_settings = redis_settings
    functions = (nothing, rest, in_thread(peer.nothing_sync), in_thread(peer.compute))
    max_jobs = CONCURRENCY
    poll_delay = 0.01
    keep_result = 0


class Arq(Client):
    async def open(self) -> None:
        self._pool = await create_pool(redis_settings)

    def add(self, task: str, number: int) -> Any:
        return self._pool.enqueue_job(task, number)

    def plan(self, number: int, moment: float) -> Any:
        return self._pool.enqueue_job("nothing", number, _defer_until=at(moment))


if __name__ == "__main__":
    play(Arq())
