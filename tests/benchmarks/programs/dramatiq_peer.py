"""dramatiq on its Redis broker: `dramatiq dramatiq_peer`. Async actors need a middleware, as its manual says."""

from __future__ import annotations

import time
from typing import Any

import dramatiq
import peer
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AsyncIO
from peer import URL, Client, play

broker = RedisBroker(url=URL)
broker.add_middleware(AsyncIO())
dramatiq.set_broker(broker)
tasks = {
    each.__name__: dramatiq.actor(each)
    for each in (peer.nothing, peer.rest, peer.nothing_sync, peer.rest_sync, peer.compute)
}


class Dramatiq(Client):
    def add(self, task: str, number: int) -> Any:
        tasks[task].send(number)

    def plan(self, number: int, moment: float) -> Any:
        tasks["nothing"].send_with_options(args=(number,), delay=max(0, round((moment - time.time()) * 1000)))


if __name__ == "__main__":
    play(Dramatiq())
