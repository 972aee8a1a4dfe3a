"""Everything on a docket can be seen, and everybody who works on it."""

from __future__ import annotations

import asyncio
from datetime import datetime

from docket import Docket, Worker


async def test_a_snapshot_shows_what_waits_and_what_runs(docket: Docket, tomorrow: datetime):
    """By due time; what runs says where and since when."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        begun.set()
        await go_on.wait()

    async def note() -> None: ...

    async with Worker(docket, name="w", concurrency=1) as worker:
        await docket.add(slow, key="running")()
        working = asyncio.create_task(worker.run_until_finished())
        await begun.wait()
        await docket.add(note, when=tomorrow, key="tomorrow")()
        await docket.add(note, key="queued")()

        snapshot = await docket.snapshot()
        assert [execution.key for execution in snapshot.future] == ["queued", "tomorrow"]
        (running,) = snapshot.running
        assert (running.key, running.worker) == ("running", "w") and running.started_at is not None
        assert snapshot.total_tasks == 3
        assert [each.name for each in snapshot.workers] == ["w"]

        await docket.cancel("tomorrow")
        go_on.set()
        await working


async def test_a_snapshot_shows_tasks_that_this_process_does_not_know(
    docket: Docket, docket_name: str, redis_url: str
):
    """An operator's tool need not import the application."""

    async def special(number: int) -> None: ...

    await docket.add(special, key="k")(1)
    async with Docket(docket_name, redis_url) as operator:
        (execution,) = (await operator.snapshot()).future
        assert (execution.key, execution.function_name, execution.args) == ("k", "special", (1,))
    await docket.clear()


async def test_workers_say_what_they_can_do(docket: Docket):
    """As long as they are heard of; after they have left they are gone."""

    async def special() -> None: ...

    docket.register(special)
    async with Worker(docket, name="w") as worker:
        working = asyncio.create_task(worker.run_forever())
        while not (workers := await docket.workers()):
            await asyncio.sleep(0.005)
        assert [each.name for each in workers] == ["w"]
        assert "special" in workers[0].tasks
        assert [each.name for each in await docket.task_workers("special")] == ["w"]
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    assert await docket.workers() == []
