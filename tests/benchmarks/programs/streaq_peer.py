"""streaQ on its asyncio backend, without results: `streaq run streaq_peer:worker`."""

from __future__ import annotations

from typing import Any

import peer
from peer import CONCURRENCY, URL, Client, at, play
from streaq import Worker

worker = Worker(
    redis_url=URL,
    concurrency=CONCURRENCY,
    sync_concurrency=CONCURRENCY,
    anyio_kwargs={"use_uvloop": True},
)
tasks = {
    each.__name__: worker.task(ttl=0)(each)
    for each in (peer.nothing, peer.rest, peer.nothing_sync, peer.compute)
}


class Streaq(Client):
    async def open(self) -> None:
        self._open = worker
        await worker.__aenter__()

    def add(self, task: str, number: int) -> Any:
        return tasks[task].enqueue(number)

    async def bulk(self, task: str, count: int) -> None:
        for first in range(0, count, 1000):
            many = [tasks[task].enqueue(number) for number in range(first, min(first + 1000, count))]
            await worker.enqueue_many(many)

    def plan(self, number: int, moment: float) -> Any:
        return tasks["nothing"].enqueue(number).start(schedule=at(moment))


if __name__ == "__main__":
    play(Streaq())
