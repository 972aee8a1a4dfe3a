"""What a worker counts: each run once when it begins, once when it has ended, and nothing that was never run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from docket import Docket, Perpetual, Retry
from docket_runtime.surroundings import Surroundings
from tests.runtime.support import Watched, running, soon, until, work_off

NO_DELAY = timedelta(0)


async def fine() -> None: ...


def fine_sync() -> None: ...


async def broken() -> None:
    raise ValueError("no")


async def broken_twice(retry: Retry = Retry(attempts=2)) -> None:
    raise ValueError("no")


async def again(perpetual: Perpetual = Perpetual(every=NO_DELAY)) -> None:
    perpetual.cancel() if again_runs.append(1) or len(again_runs) > 1 else None


again_runs: list[int] = []


async def counted(docket: Docket, task: Callable[..., Any]) -> Watched:
    board = Watched()
    await docket.add(task)()
    await work_off(docket, surroundings=Surroundings(board=board))
    return board


@pytest.mark.parametrize(
    ("task", "ends"),
    [
        (fine, [("completed", False)]),
        (fine_sync, [("completed", False)]),
        (broken, [("failed", True)]),
        (broken_twice, [("retry", True), ("failed", True)]),
        (again, [("perpetuate", False), ("completed", False)]),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
async def test_each_run_is_counted_with_its_end(
    docket: Docket, task: Callable[..., Any], ends: list[tuple[str, bool]]
):
    board = await counted(docket, task)
    assert board.done == [(task.__name__, *end) for end in ends]
    assert [(name, redelivered) for name, redelivered, _ in board.begun] == [(task.__name__, False)] * len(
        ends
    )
    assert all(0 <= late < 5 for _, _, late in board.begun)


async def test_lateness_is_counted_from_the_moment_at_which_it_was_due(docket: Docket):
    board = Watched()
    await docket.add(fine, when=soon(seconds=-3))()
    await docket.add(fine, when=soon(seconds=0.2))()
    await work_off(docket, surroundings=Surroundings(board=board))
    first, second = (late for _, _, late in board.begun)
    assert 3 <= first < 4 and 0 <= second < 1


async def test_what_was_struck_has_never_run(docket: Docket):
    await docket.add(fine)()
    await docket.strike(fine)
    board = Watched()
    await work_off(docket, surroundings=Surroundings(board=board))
    assert (board.begun, board.done) == ([], [])


async def test_what_nobody_knows_has_never_run(docket: Docket):
    board = Watched()
    await docket.add("unheard of")()
    await work_off(docket, surroundings=Surroundings(board=board))
    assert (board.begun, board.done) == ([], [])
    await docket.purge_dead()


async def test_what_a_drain_interrupts_has_ended(docket: Docket):
    begun = asyncio.Event()

    async def endless() -> None:
        begun.set()
        await asyncio.sleep(60)

    board = Watched()
    await docket.add(endless)()
    async with running(docket, surroundings=Surroundings(board=board)):
        await until(begun.is_set)
    assert board.done == [("endless", "interrupted", False)]
    await docket.clear()


async def test_it_is_counted_before_the_ledger_can_say_that_it_is_done(docket: Docket):
    """Once somebody has the result, `finished` has been called."""
    board = Watched()
    async with running(docket, surroundings=Surroundings(board=board)):
        for number in range(50):
            execution = await docket.add(fine)()
            await execution.get_result(timeout=timedelta(seconds=5))
            assert len(board.done) == number + 1
