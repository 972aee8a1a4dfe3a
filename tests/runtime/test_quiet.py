"""A worker that is to be quiet takes nothing new, and goes on with what it has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from docket import CurrentWorker, Docket, Worker
from docket_runtime.surroundings import Surroundings
from tests.runtime.support import Gate, Watched, running, until

LIMIT = timedelta(seconds=5)


class Told(Watched):
    """A board on which somebody can ask for quiet."""

    def __init__(self, quiet: bool = False) -> None:
        super().__init__()
        self.asked = quiet

    @property
    def quiet(self) -> bool:
        return self.asked


@asynccontextmanager
async def watched(docket: Docket, board: Told, name: str = "told") -> AsyncIterator[Worker]:
    surroundings = Surroundings(board=board)
    async with Worker(docket, name=name, drain_timeout=LIMIT, surroundings=surroundings) as worker:
        task = asyncio.create_task(worker.run_forever())
        await until(lambda: {"working", "quiet"} & set(board.phases))
        yield worker
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def become(worker: Worker, board: Told, quiet: bool) -> None:
    seen = len(board.phases)
    board.asked = quiet
    worker.quiet.look()
    await until(lambda: board.phases[seen:] == ["quiet" if quiet else "working"])


async def who(worker: Worker = CurrentWorker()) -> str:
    return worker.name


async def test_what_is_added_meanwhile_is_run_by_others(docket: Docket):
    docket.register(who)
    board = Told()
    async with watched(docket, board) as worker:
        assert await (await docket.add(who)()).get_result(timeout=LIMIT) == "told"
        await become(worker, board, quiet=True)
        async with running(docket, name="other"):
            added = [await docket.add(who)() for _ in range(20)]
            assert {await each.get_result(timeout=LIMIT) for each in added} == {"other"}


async def test_what_runs_goes_on_and_counts(docket: Docket):
    gate, board = Gate(), Told()
    docket.register(gate.__call__, names=["gate"])
    async with watched(docket, board) as worker:
        execution = await docket.add("gate")("long")
        await gate.has_begun()
        await become(worker, board, quiet=True)
        gate.open.set()
        assert await execution.get_result(timeout=LIMIT) == "long"


async def test_a_worker_that_is_quiet_no_more_claims_at_once(docket: Docket):
    board = Told()
    async with watched(docket, board) as worker:
        for _ in range(3):
            await become(worker, board, quiet=True)
            execution = await docket.add(who)()
            await become(worker, board, quiet=False)
            assert await execution.get_result(timeout=timedelta(seconds=1)) == "told"


async def test_a_worker_born_into_quiet_claims_nothing_until_it_is_over(docket: Docket):
    board = Told(quiet=True)
    execution = await docket.add(who)()
    async with watched(docket, board) as worker:
        assert board.phases[-1] == "quiet"
        async with running(docket, name="other"):
            assert await execution.get_result(timeout=LIMIT) == "other"
        later = await docket.add(who)()
        await become(worker, board, quiet=False)
        assert await later.get_result(timeout=LIMIT) == "told"


async def test_a_drain_is_quiet_for_good(docket: Docket):
    gate, board = Gate(), Told(quiet=True)
    async with watched(docket, board) as worker:
        worker.drain.ask(None)
        board.asked = False
        worker.quiet.look()
        await until(lambda: "left" in board.phases)
        assert worker.exchange.quiet and "working" not in board.phases and gate.log == []


async def test_a_look_that_finds_nothing_new_changes_nothing(docket: Docket):
    board = Told()
    async with watched(docket, board) as worker:
        worker.quiet.look()
        assert await (await docket.add(who)()).get_result(timeout=LIMIT) == "told"
        assert board.phases == ["working"]
