"""Whatever waits somewhere, a worker with a free slot goes on claiming the rest."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from docket import ConcurrencyLimit, Docket
from docket.store import scripts
from docket_runtime.signals import Signals
from tests.runtime.support import running, until

LIMIT = timedelta(seconds=5)


async def bill_as_it_was(
    customer: int, limit: ConcurrencyLimit = ConcurrencyLimit("customer", max_concurrent=2)
) -> None: ...


async def bill(
    customer: int, limit: ConcurrencyLimit = ConcurrencyLimit("customer", max_concurrent=1)
) -> None: ...


async def enlist(docket: Docket, worker_id: str) -> None:
    """Somebody who claims what he is told to, and does nothing with it."""
    about = scripts.enlist(
        docket.keys, worker_id, lease_ms=60_000, host="h", process="p", concurrency=1, tasks=["bill"]
    )
    await docket.store.ask(about)


async def claim_one(docket: Docket, worker_id: str) -> None:
    call = scripts.exchange(
        docket.keys,
        worker_id,
        free=1,
        lanes="rhdl",
        promote_most=0,
        census=False,
        settlements=(),
        deliveries=(),
    )
    _, _, _, _, _, _, rows, _ = await docket.store.ask(call)
    assert rows


async def hand_over(docket: Docket, worker_id: str, begun: tuple[str, ...] | None) -> None:
    await docket.store.ask(
        scripts.hand_over(docket.keys, worker_id, "it has died", max_crashes=3, begun=begun)
    )


async def test_a_worker_goes_on_when_a_suspect_waits_for_a_limit_that_was_changed(
    docket: Docket, docket_name: str, redis_url: str
):
    """What the suspect was added with lets it in; what this worker's code says does not."""

    async def other() -> str:
        return "ran"

    async with Docket(docket_name, redis_url) as before:
        before.register(bill_as_it_was, names=["bill"])
        docket.register(bill, names=["bill"])
        docket.register(other)
        await enlist(docket, "dead/1")
        await enlist(docket, "busy/1")
        suspect = await before.add("bill")(7)
        await claim_one(docket, "dead/1")
        await hand_over(docket, "dead/1", None)
    permitted = await docket.add("bill")(7)
    await claim_one(docket, "busy/1")
    async with running(docket, concurrency=2) as worker:
        async with docket.redis() as redis:
            async with asyncio.timeout(5):
                while await redis.hget(docket.keys.runs(suspect.key), "waiting") is None:
                    await asyncio.sleep(0.01)
        await until(lambda: not worker.claims)
        assert await (await docket.add(other)()).get_result(timeout=LIMIT) == "ran"
        await hand_over(docket, "busy/1", ())
        for each in (permitted.key, suspect.key):
            execution = await docket.get_execution(each)
            assert execution is not None
            await execution.get_result(timeout=LIMIT)


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_what_was_called_out_and_not_heard_is_found_by_the_safety_look(
    docket: Docket, monkeypatch: pytest.MonkeyPatch, concurrency: int
):
    """Though the only free slot is that of the reader, who hears of the main lane only."""
    monkeypatch.setattr("docket_runtime.exchange._SAFETY_LOOK", 0.1)
    monkeypatch.setattr(Signals, "_hear", lambda self, message: None)

    async def note() -> str:
        return "ran"

    docket.register(note)
    async with running(docket, concurrency=concurrency) as worker:
        await until(lambda: worker.exchange.reading)
        for _ in range(3):
            execution = await docket.add(note, priority="high")()
            assert await execution.get_result(timeout=LIMIT) == "ran"
