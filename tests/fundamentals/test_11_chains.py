"""A task can be followed by itself, under its own key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from docket import CurrentDocket, Disposition, Docket, TaskKey


async def test_a_running_execution_schedules_its_successor_with_its_own_key(docket: Docket, work):
    """There is one continuous chain, however often somebody else tries to start it."""
    polls: list[int] = []

    async def poll(number: int, key: str = TaskKey(), my_docket: Docket = CurrentDocket()) -> None:
        polls.append(number)
        if number < 4:
            when = datetime.now(UTC) + timedelta(milliseconds=10)
            successor = await my_docket.add(poll, when=when, key=key)(number + 1)
            assert successor.disposition is Disposition.SCHEDULED

    await docket.add(poll, key="poll")(1)
    again = await docket.add(poll, key="poll")(100)
    assert again.disposition is Disposition.ALREADY_SCHEDULED
    await work()
    assert polls == [1, 2, 3, 4]


async def test_the_waiter_of_a_chain_waits_for_its_last_link(docket: Docket, work):
    """The key stands for the whole chain."""

    async def count(number: int, key: str = TaskKey(), my_docket: Docket = CurrentDocket()) -> int:
        if number < 3:
            await my_docket.add(count, key=key)(number + 1)
        return number

    first = await docket.add(count, key="count")(1)
    await work()
    assert await first.get_result() == 3
