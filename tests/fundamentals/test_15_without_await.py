"""The same docket for code that does not await: Flask, Django, scripts."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from docket import Disposition, Worker
from docket import Docket as AsyncDocket
from docket.sync import Docket


def test_everything_works_without_a_loop(docket_name: str, redis_url: str):
    """The methods are those of `docket.Docket`; they block instead of being awaited."""

    async def double(number: int) -> int:
        return 2 * number

    tomorrow = datetime.now(UTC) + timedelta(days=1)
    with Docket(docket_name, redis_url) as docket:
        execution = docket.add(double, key="k")(21)
        assert execution.disposition is Disposition.SCHEDULED
        assert docket.add(double, key="k")(21).disposition is Disposition.ALREADY_SCHEDULED
        docket.replace(double, tomorrow, "k")(22)
        docket.add_many([docket.call(double)(number) for number in range(10)])
        assert docket.snapshot().total_tasks == 11
        docket.cancel("k")
        execution.sync()
        assert execution.state == "cancelled"
        assert docket.clear() == 10


async def test_results_come_back_to_a_thread(docket: AsyncDocket, docket_name: str, redis_url: str):
    """Waiting blocks the thread that waits, and nothing else."""

    async def double(number: int) -> int:
        return 2 * number

    async def fails() -> None:
        raise ValueError("on purpose")

    def client() -> int:
        with Docket(docket_name, redis_url) as blocking:
            bad = blocking.add(fails)()
            with pytest.raises(ValueError, match="on purpose"):
                bad.get_result(timeout=timedelta(seconds=5))
            return blocking.add(double)(21).get_result(timeout=timedelta(seconds=5))

    docket.register(double)
    docket.register(fails)
    async with Worker(docket) as worker:
        working = asyncio.create_task(worker.run_forever())
        assert await asyncio.to_thread(client) == 42
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
