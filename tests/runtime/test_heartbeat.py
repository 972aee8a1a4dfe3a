"""A worker that has had nothing to do for a while is woken less often, and is all there again with the first claim."""

from __future__ import annotations

import time

from docket import Docket
from docket_runtime.surroundings import Surroundings
from tests.runtime.support import Watched, running, until


class Ticked(Watched):
    """A board that remembers when each tick said that the next one would come."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def tick(self, lag: float = 0.0, pause: float = 0.25) -> None:
        self.pauses.append(pause)


async def test_a_supervised_worker_rests_until_its_first_claim(docket: Docket) -> None:
    board = Ticked()
    seen: list[float] = []

    async def look() -> None:
        seen.append(board.pauses[-1])

    docket.register(look)
    async with running(docket, surroundings=Surroundings(board=board, vouched=lambda: True)):
        assert board.pauses[:1] in ([], [0.25])
        await until(lambda: board.pauses[-1:] == [2.0])
        await (await docket.add(look)()).get_result()
        # The claim itself has ticked, before the body began.
        assert seen == [0.25]
        await until(lambda: board.pauses[-1:] == [2.0])


async def test_a_worker_that_is_alone_never_rests(docket: Docket) -> None:
    board = Ticked()
    async with running(docket, surroundings=Surroundings(board=board)):
        began = time.monotonic()
        await until(lambda: time.monotonic() - began > 2.6)
        assert set(board.pauses) == {0.25} and len(board.pauses) > 8


async def test_what_blocks_the_loop_of_a_worker_that_rested_is_named(docket: Docket, caplog) -> None:
    board = Ticked()

    async def blocks() -> None:
        time.sleep(0.9)

    docket.register(blocks)
    async with running(docket, surroundings=Surroundings(board=board, vouched=lambda: True)):
        await until(lambda: board.pauses[-1:] == [2.0])
        await (await docket.add(blocks, key="blocker")()).get_result()
        await until(lambda: "blocker (blocks) blocked the loop for 0.9 s" in caplog.text)
