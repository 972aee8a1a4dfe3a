"""What was scheduled can be changed as long as it has not run."""

from __future__ import annotations

import asyncio
from datetime import datetime

from docket import Disposition, Docket, Worker


async def test_replacing_changes_the_moment_and_the_arguments(
    docket: Docket, tomorrow: datetime, soon: datetime, work
):
    """The key stays, everything else is new."""
    sent: list[str] = []

    async def send(name: str) -> None:
        sent.append(name)

    await docket.add(send, when=tomorrow, key="welcome")("Jane Smith")
    replaced = await docket.replace(send, soon, "welcome")("Jane Q. Smith")
    assert replaced.disposition is Disposition.SCHEDULED
    await work()
    assert sent == ["Jane Q. Smith"]


async def test_replacing_what_is_queued_runs_the_new_call_only(docket: Docket, work):
    """Queued work has not begun, so it can be replaced."""
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    await docket.add(note, key="k")(1)
    await docket.replace(note, None, "k")(2)
    await work()
    assert ran == [2]


async def test_replacing_an_unknown_key_adds_it(docket: Docket, now: datetime, work):
    """Nobody needs to look first."""
    ran: list[int] = []

    async def note() -> None:
        ran.append(1)

    await docket.replace(note, now, "k")()
    await work()
    assert ran == [1]


async def test_replacing_what_runs_lets_it_finish_and_then_runs_the_new_call(docket: Docket):
    """The running body is superseded: it ends in peace, its result does not count, its waiters get the new one."""
    log: list[str] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def body(what: str) -> str:
        log.append(f"{what} begins")
        begun.set()
        await go_on.wait()
        log.append(f"{what} ends")
        return what

    async with Worker(docket) as worker:
        old = await docket.add(body, key="k")("old")
        working = asyncio.create_task(worker.run_until_finished())
        await begun.wait()
        await docket.replace(body, None, "k")("new")
        go_on.set()
        assert await old.get_result() == "new"
        await working
    assert log == ["old begins", "old ends", "new begins", "new ends"]
