"""celery on Redis, without results, events and rate limits: `celery -A celery_peer worker`."""

from __future__ import annotations

from typing import Any

import peer
from celery import Celery
from peer import URL, Client, at, play

app = Celery("bench", broker=URL.replace("unix://", "redis+socket://"))
app.conf.update(
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    worker_disable_rate_limits=True,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)
tasks = {
    each.__name__: app.task(each, name=each.__name__)
    for each in (peer.nothing_sync, peer.rest_sync, peer.compute)
}


class CeleryClient(Client):
    def add(self, task: str, number: int) -> Any:
        tasks[task].apply_async((number,))

    def plan(self, number: int, moment: float) -> Any:
        tasks["nothing_sync"].apply_async((number,), eta=at(moment))


if __name__ == "__main__":
    play(CeleryClient())
