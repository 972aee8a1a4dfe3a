"""rq, without results: `rq worker-pool`, with the worker that does not fork for each job."""

from __future__ import annotations

from typing import Any

import peer
from peer import URL, Client, at, play
from redis import Redis
from rq import Queue

queue = Queue(connection=Redis.from_url(URL))
OPTIONS = {"result_ttl": 0, "description": ""}


class Rq(Client):
    def add(self, task: str, number: int) -> Any:
        queue.enqueue(getattr(peer, task), number, **OPTIONS)

    def bulk(self, task: str, count: int) -> None:
        for first in range(0, count, 1000):
            queue.enqueue_many(
                [
                    Queue.prepare_data(getattr(peer, task), (number,), **OPTIONS)
                    for number in range(first, min(first + 1000, count))
                ]
            )

    def plan(self, number: int, moment: float) -> Any:
        queue.enqueue_at(at(moment), peer.nothing_sync, number, **OPTIONS)


if __name__ == "__main__":
    play(Rq())
