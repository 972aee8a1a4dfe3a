"""What the ledger says of how much there is to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from docket import Docket
from docket.settings import DocketSettings
from docket.store.figures import Figures
from docket.store.ledgers import AnyLedger, open_ledger
from tests.runtime.support import Gate, running, soon, until, work_off

NOTHING = Figures(due=0, scheduled=0, waiting=0, dead=0, latency=0.0)


async def nothing() -> None: ...


@pytest.fixture
async def ledger(docket: Docket, docket_name: str, redis_url: str) -> AsyncIterator[AnyLedger]:
    async with open_ledger(DocketSettings(docket_name, redis_url)) as ledger:
        yield ledger


async def test_an_unheard_of_docket_has_nothing_to_do(ledger: AnyLedger):
    assert await ledger.figures() == NOTHING


async def test_what_nobody_claims_is_due_and_grows_old(docket: Docket, ledger: AnyLedger):
    await docket.add_many(docket.call(nothing)() for _ in range(3))
    await docket.add(nothing, when=soon(hours=1))()
    first = await ledger.figures()
    assert (first.due, first.scheduled) == (3, 1)
    await asyncio.sleep(0.1)
    second = await ledger.figures()
    assert 0.1 <= second.latency - first.latency < 5
    await docket.clear()


async def test_what_is_overdue_is_due_though_no_worker_has_promoted_it(docket: Docket, ledger: AnyLedger):
    await docket.add(nothing, when=soon(seconds=0.05))()
    assert (await ledger.figures()).scheduled == 1
    await asyncio.sleep(0.2)
    figures = await ledger.figures()
    assert (figures.due, figures.scheduled) == (1, 0) and 0.1 < figures.latency < 5
    await docket.clear()


async def test_what_runs_is_not_due_any_more_and_what_waits_behind_it_is(docket: Docket, ledger: AnyLedger):
    gate = Gate()
    docket.register(gate, names=["gate"])
    for _ in range(3):
        await docket.add("gate")()
    async with running(docket, concurrency=1, drain_timeout=timedelta(seconds=5)):
        await gate.has_begun()
        figures = await ledger.figures()
        assert figures.due == 2 and figures.latency > 0
        gate.open.set()
        await until(lambda: len(gate.log) == 6)
    assert await ledger.figures() == NOTHING


async def test_one_that_waits_for_its_own_key_waits_and_is_not_due(docket: Docket, ledger: AnyLedger):
    gate = Gate()
    docket.register(gate, names=["gate"])
    await docket.add("gate", key="one")()
    async with running(docket, drain_timeout=timedelta(seconds=5)):
        await gate.has_begun()
        await docket.replace("gate", key="one", when=soon(seconds=-1))()
        figures = await ledger.figures()
        assert (figures.due, figures.waiting, figures.latency) == (0, 1, 0.0)
        gate.open.set()
        await until(lambda: len(gate.log) == 4)


async def test_dead_letters_are_counted_and_are_not_due(docket: Docket, ledger: AnyLedger):
    await docket.add("unheard of")()
    await work_off(docket)
    assert await ledger.figures() == Figures(due=0, scheduled=0, waiting=0, dead=1, latency=0.0)
    await docket.purge_dead()
