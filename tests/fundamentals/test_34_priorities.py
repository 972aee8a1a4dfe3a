"""What goes first when there is more to do than slots to do it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import pytest

from docket import ConcurrencyLimit, Docket, Priority, Retry, Worker
from docket.sync import Docket as BlockingDocket

Work = Callable[[], Awaitable[None]]


async def one_at_a_time(docket: Docket) -> None:
    """A worker with a single slot: the order in which things begin is the order of the line."""
    async with Worker(docket, concurrency=1) as worker:
        await asyncio.wait_for(worker.run_until_finished(), 10)


async def test_high_before_normal_before_low(docket: Docket) -> None:
    """Within a level, in the order of arrival."""
    began: list[str] = []

    async def work(name: str) -> None:
        began.append(name)

    for name in ("low 1", "normal 1", "high 1", "low 2", "normal 2", "high 2"):
        level = name.split()[0]
        await docket.add(work, priority=level)(name)
    await one_at_a_time(docket)
    assert began == ["high 1", "high 2", "normal 1", "normal 2", "low 1", "low 2"]


async def test_normal_is_what_nobody_has_to_say(docket: Docket) -> None:
    began: list[str] = []

    def work(name: str) -> None:
        began.append(name)

    await docket.add(work)("unsaid")
    await docket.add(work, priority=Priority.NORMAL)("said")
    await docket.add(work, priority=Priority.LOW)("low")
    await docket.add(work, priority=Priority.HIGH)("high")
    await one_at_a_time(docket)
    assert began == ["high", "unsaid", "said", "low"]


async def test_nothing_starves(docket: Docket) -> None:
    """Strict, but for one of a lower level now and then: it has its turn while the flood goes on."""
    began: list[str] = []

    async def work(name: str) -> None:
        began.append(name)
        if name == "high" and len(began) < 200 and "low" not in began:
            await docket.add(work, priority="high")("high")  # so there is always one that goes first
            await docket.add(work, priority="high")("high")

    await docket.add(work, priority="low")("low")
    await docket.add(work, priority="high")("high")
    await one_at_a_time(docket)
    assert "high" in began[: began.index("low")]
    assert began.index("low") < 100
    assert "high" in began[began.index("low") :]


async def test_it_holds_for_what_is_due_later(docket: Docket, soon: datetime) -> None:
    """All due at the same moment: the level decides then."""
    began: list[str] = []

    async def work(name: str) -> None:
        began.append(name)

    for level in Priority:
        for number in range(2):
            await docket.add(work, when=soon, priority=level)(f"{level} {number}")
    await asyncio.sleep(0.06)
    await one_at_a_time(docket)
    assert [name.split()[0] for name in began] == ["high"] * 2 + ["normal"] * 2 + ["low"] * 2


async def test_a_retry_is_of_the_level_of_its_call(docket: Docket) -> None:
    began: list[str] = []

    async def work(name: str, retry: Retry = Retry(attempts=2)) -> None:
        began.append(f"{name} {retry.attempt}")
        if name == "high" and retry.attempt == 1:
            raise ConnectionError

    for level in ("low", "normal", "high"):
        await docket.add(work, priority=level)(level)
    await one_at_a_time(docket)
    assert began == ["high 1", "high 2", "normal 1", "low 1"]


async def test_it_decides_who_is_next_under_a_limit(docket: Docket, work: Work) -> None:
    """Who waits for a permit stands in line by level, then by arrival."""
    began: list[str] = []
    everybody_is_here = asyncio.Event()

    async def send(name: str, limit: ConcurrencyLimit = ConcurrencyLimit()) -> None:
        began.append(name)
        await everybody_is_here.wait()

    async def add_the_others() -> None:
        while not began:
            await asyncio.sleep(0.005)
        for level in ("low", "normal", "high"):
            await docket.add(send, priority=level)(level)
        everybody_is_here.set()

    await docket.add(send)("first")
    await asyncio.gather(work(), add_the_others())
    assert began == ["first", "high", "normal", "low"]


async def test_every_way_to_schedule_takes_one(docket: Docket) -> None:
    began: list[str] = []

    async def work(name: str) -> None:
        began.append(name)

    await docket.add_many([docket.call(work)("normal"), docket.call(work, priority="low")("low")])
    await docket.add(work, key="k", priority="low")("was low")
    await docket.replace(work, None, "k", priority="high")("replaced")
    with BlockingDocket(docket.name, docket.url) as blocking:
        blocking.add("work", priority="high")("by name")
    await one_at_a_time(docket)
    assert began == ["replaced", "by name", "normal", "low"]


async def test_an_unknown_level_is_refused(docket: Docket) -> None:
    with pytest.raises(ValueError, match="expected priority to be one of high, normal, low, got 'urgent'"):
        docket.add("work", priority="urgent")
