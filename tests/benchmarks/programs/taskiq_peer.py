"""taskiq on Redis streams, acknowledged once a task has been run: `taskiq worker taskiq_peer:broker`."""

from __future__ import annotations

from typing import Any

from peer import URL, Client, at, compute, nothing, nothing_sync, play, rest
from taskiq import TaskiqScheduler
from taskiq_redis import ListRedisScheduleSource, RedisStreamBroker

broker = RedisStreamBroker(URL, consumer_id="0", xread_count=100, unacknowledged_lock_timeout=5)
tasks = {
    each.__name__: broker.register_task(each, each.__name__)
    for each in (nothing, nothing_sync, rest, compute)
}
source = ListRedisScheduleSource(URL, "schedule")
scheduler = TaskiqScheduler(broker, [source])


class Taskiq(Client):
    async def open(self) -> None:
        await broker.startup()
        await source.startup()

    def add(self, task: str, number: int) -> Any:
        return tasks[task].kiq(number)

    def plan(self, number: int, moment: float) -> Any:
        return tasks["nothing"].schedule_by_time(source, at(moment), number)


if __name__ == "__main__":
    play(Taskiq())
