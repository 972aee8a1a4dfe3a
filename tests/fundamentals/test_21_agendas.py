"""A flood of work is scattered over a stretch of time."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from docket import Agenda, Docket


async def process(item: int) -> None: ...


async def test_calls_are_scattered_evenly(docket: Docket, tomorrow: datetime):
    """From `start` (now, unless given) to `start + over`, both included, in the order in which they were added."""
    agenda = Agenda()
    for item in range(4):
        agenda.add(process)(item)
    executions = await agenda.scatter(docket, start=tomorrow, over=timedelta(hours=3))
    assert [each.when for each in executions] == [tomorrow + timedelta(hours=hour) for hour in range(4)]
    assert [each.args for each in executions] == [(0,), (1,), (2,), (3,)]


async def test_a_single_call_goes_to_the_middle(docket: Docket, tomorrow: datetime):
    """There is no more even place for it."""
    agenda = Agenda()
    agenda.add(process)(42)
    (execution,) = await agenda.scatter(docket, start=tomorrow, over=timedelta(hours=2))
    assert execution.when == tomorrow + timedelta(hours=1)


async def test_jitter_keeps_many_agendas_apart(docket: Docket, tomorrow: datetime):
    """Each call is moved by up to so much either way, but never before the start."""
    agenda, jitter = Agenda(), timedelta(minutes=5)
    for item in range(50):
        agenda.add(process)(item)
    executions = await agenda.scatter(docket, start=tomorrow, over=timedelta(hours=1), jitter=jitter)
    assert all(tomorrow <= each.when <= tomorrow + timedelta(hours=1) + jitter for each in executions)


async def test_an_agenda_can_be_scattered_again(docket: Docket, tomorrow: datetime):
    """Each time under fresh keys; a call that was given a key is scheduled once while it waits."""
    agenda = Agenda()
    agenda.add(process)(1)
    agenda.add(process, key="the-second")(2)
    for _ in range(2):
        await agenda.scatter(docket, start=tomorrow, over=timedelta(hours=1))
    assert sorted(each.args for each in (await docket.snapshot()).future) == [(1,), (1,), (2,)]


async def test_a_name_that_nobody_knows_ends_the_scattering(docket: Docket, tomorrow: datetime):
    """Neither this docket nor any worker so far: what stands before it is scheduled, it and the rest are not."""
    agenda = Agenda()
    agenda.add(process)(1)
    agenda.add("nonexistent")(2)
    agenda.add(process)(3)
    with pytest.raises(KeyError, match="nonexistent"):
        await agenda.scatter(docket, start=tomorrow, over=timedelta(hours=1))
    assert [each.args for each in (await docket.snapshot()).future] == [(1,)]
