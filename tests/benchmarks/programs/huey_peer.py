"""huey on Redis, blocking reads, without results: `huey_consumer huey_peer.huey`."""

from __future__ import annotations

from typing import Any

import peer
from huey import RedisHuey
from peer import URL, Client, at, play

huey = RedisHuey("bench", url=URL, results=False, blocking=True)
tasks = {each.__name__: huey.task()(each) for each in (peer.nothing_sync, peer.rest_sync, peer.compute)}


class Huey(Client):
    def add(self, task: str, number: int) -> Any:
        tasks[task](number)

    def plan(self, number: int, moment: float) -> Any:
        tasks["nothing_sync"].schedule((number,), eta=at(moment))


if __name__ == "__main__":
    play(Huey())
