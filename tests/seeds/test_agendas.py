"""The examples of "Task Scattering with Agenda"."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from docket import Agenda, Docket, testing
from tests.seeds.conftest import Noted
from tests.seeds.documents import PATTERNS, example, imports

MINUTE = timedelta(minutes=1)


async def process_item(item_id: int) -> None: ...


def around(moment: datetime, expected: datetime) -> bool:
    return abs(moment - expected) < timedelta(seconds=5)


async def moments(docket: Docket) -> list[datetime]:
    return [execution.when for execution in (await docket.snapshot()).future]


def an_agenda(count: int) -> Agenda:
    agenda = Agenda()
    for item in range(count):
        agenda.add(process_item)(item)
    return agenda


async def test_scattering(docket: Docket, noted: Noted, capsys: pytest.CaptureFixture[str]):
    names = imports(**noted.all("perform_expensive_operation", "update_database"))
    await example(PATTERNS, "Basic Scattering").run(names)
    assert capsys.readouterr().out == "Scheduled 100 tasks over 50 minutes\n"
    whens = await moments(docket)
    gaps = {after - before for before, after in itertools.pairwise(whens)}
    assert len(whens) == 100
    assert all(abs(gap - 50 * MINUTE / 99) < timedelta(milliseconds=1) for gap in gaps)
    docket.register(names["process_item"])
    await testing.advance(docket, 51 * MINUTE)
    await testing.run_to_the_end(docket)
    assert {item for _, item in noted.calls} == set(range(1, 101))


async def test_jitter(docket: Docket):
    names = imports(docket=docket, agenda=an_agenda(30))
    before = datetime.now(UTC)
    await example(PATTERNS, "Jitter for Thundering Herd Prevention").run(names)
    whens = await moments(docket)
    assert len(whens) == 30 and all(before <= when <= before + 51 * MINUTE for when in whens)


async def test_windows_in_the_future(docket: Docket):
    names = await example(PATTERNS, "Future Scatter Windows").run(imports(docket=docket, agenda=an_agenda(3)))
    whens = await moments(docket)
    assert whens == [names["start_time"] + minutes * MINUTE for minutes in (0, 15, 30)]


async def test_mixed_tasks(docket: Docket):
    names = imports(docket=docket, Agenda=Agenda, process_item=process_item)
    await example(PATTERNS, "Mixed Task Types").run(names)
    future = (await docket.snapshot()).future
    assert [each.function_name for each in future] == [
        "process_item",
        "send_email",
        "update_analytics",
        "process_item",
    ]


async def test_a_single_task(docket: Docket):
    names = imports(docket=docket, Agenda=Agenda, process_item=process_item)
    await example(PATTERNS, "Single Task Positioning").run(names)
    (when,) = await moments(docket)
    assert around(when, datetime.now(UTC) + 5 * MINUTE)


async def test_using_an_agenda_again(docket: Docket, noted: Noted):
    names = imports(
        docket=docket, Agenda=Agenda, **noted.all("cleanup_temp_files", "compress_old_logs", "update_metrics")
    )
    await example(PATTERNS, "Agenda Reusability").run(names)
    whens = await moments(docket)
    now = datetime.now(UTC)
    today = [now + minutes * MINUTE for minutes in (0, 30, 60)]
    tomorrow = [now + timedelta(days=1) + minutes * MINUTE for minutes in (0, 15, 30)]
    assert all(around(*pair) for pair in zip(whens, today + tomorrow, strict=True))


async def test_failing_half_way(docket: Docket):
    async def valid_task(argument: str) -> None: ...

    names: dict[str, Any] = imports(docket=docket, Agenda=Agenda, valid_task=valid_task)
    await example(PATTERNS, "Failure Behavior").run(names)
    assert [each.args for each in (await docket.snapshot()).future] == [("arg1",), ("arg2",)]
