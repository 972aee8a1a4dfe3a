"""Work for later is scheduled like work for now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from docket import Docket, ExecutionState


@pytest.mark.measured
async def test_work_waits_for_its_moment(docket: Docket, soon: datetime, work):
    """Nothing starts before `when`, and it starts promptly after."""
    started: list[datetime] = []

    async def note() -> None:
        started.append(datetime.now(UTC))

    execution = await docket.add(note, when=soon)()
    assert execution.state is ExecutionState.SCHEDULED
    await work()
    assert timedelta(0) <= started[0] - soon < timedelta(milliseconds=200)


async def test_due_work_runs_in_the_order_of_its_moments(docket: Docket, now: datetime, work):
    """Not in the order of adding."""
    order: list[int] = []

    async def note(number: int) -> None:
        order.append(number)

    for number in (3, 1, 2):
        await docket.add(note, when=now + timedelta(milliseconds=60 * number))(number)
    await work()
    assert order == [1, 2, 3]


async def test_the_past_means_now(docket: Docket, now: datetime, work):
    """Late is better than never."""
    ran: list[int] = []

    async def note() -> None:
        ran.append(1)

    execution = await docket.add(note, when=now - timedelta(days=1))()
    assert execution.state is ExecutionState.QUEUED
    await work()
    assert ran == [1]


async def test_a_naive_datetime_is_refused_with_a_sentence(docket: Docket):
    """Nobody can tell when `datetime(2030, 1, 1)` is."""

    async def note() -> None: ...

    with pytest.raises(TypeError, match="time zone"):
        docket.add(note, when=datetime(2030, 1, 1))
    with pytest.raises(TypeError, match="time zone"):
        docket.replace(note, datetime(2030, 1, 1), "k")


async def test_any_time_zone_will_do(docket: Docket, tomorrow: datetime):
    """A moment is a moment wherever it was written down."""

    async def note() -> None: ...

    tokyo = tomorrow.astimezone(timezone(timedelta(hours=9)))
    execution = await docket.add(note, when=tokyo, key="k")()
    fetched = await docket.get_execution("k")
    assert fetched is not None and fetched.when == execution.when == tomorrow
    await docket.clear()
