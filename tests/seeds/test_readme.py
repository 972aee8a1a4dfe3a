"""The examples of the package's README."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from docket import Docket, Execution, testing
from tests.seeds.documents import README, example, imports

SECONDS = timedelta(seconds=1)
DAY = timedelta(days=1)


async def test_at_a_glance(docket: Docket, capsys: pytest.CaptureFixture[str]):
    names = await example(README, "At a glance", 1).run(imports())
    await testing.advance(docket, 3 * SECONDS)
    # A worker must have been told of its tasks: "Running workers", further down in the document, says how.
    worker = example(README, "At a glance", 2).changed(
        "    async with Worker", "    docket.register(greet)\n    async with Worker"
    )
    await worker.run(names)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("Hello, Jane at 20") and second.startswith("Howdy, John at 20")


async def test_creating_a_docket():
    await example(README, "Creating a `Docket`").run(imports())


async def test_scheduling_work(docket: Docket):
    key = "welcome-email-for-12345"

    async def followup() -> Execution | None:
        execution = await docket.get_execution(key)
        if execution is not None:
            await execution.sync()
        return execution

    names = await example(README, "Scheduling work", 1).run(imports())
    await testing.assert_task_scheduled(docket, "send_welcome_email", args=(12345, "Jane Smith"))
    await testing.assert_task_count(docket, count=2)

    await example(README, "Scheduling work", 2).run(names)
    await testing.assert_task_scheduled(docket, "send_followup_email", key=key)
    await testing.assert_task_count(docket, count=4)

    names["docket"] = docket
    await example(README, "Scheduling work", 3).run(names)
    await testing.assert_task_count(docket, count=4)  # the key was taken: nothing was added

    await example(README, "Scheduling work", 4).run(names)
    execution = await followup()
    assert execution is not None and execution.when == names["next_week"]

    await example(README, "Scheduling work", 5).run(names)
    await testing.assert_task_scheduled(docket, "send_followup_email", args=(12345, "Jane Q. Smith"), key=key)
    execution = await followup()
    assert execution is not None and execution.when == names["tomorrow"]

    await example(README, "Scheduling work", 6).run(names)
    await testing.assert_task_not_scheduled(docket, "send_followup_email", key=key)

    await testing.assert_task_count(docket, "send_followup_email", count=1)
    await example(README, "Scheduling work", 7).run(names)
    await testing.assert_task_count(docket, "send_followup_email", count=2)


@pytest.mark.parametrize("keyed", [False, True])
async def test_a_task_that_schedules_itself_again(
    keyed: bool, docket: Docket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "file"
    names = imports(now=lambda: datetime.now(UTC))
    polling = example(README, "Writing tasks", 1).changed("...do something interesting...", "print('found')")
    await polling.run(names)
    if keyed:
        polling = example(README, "Writing tasks", 2)
        await polling.changed("...do something interesting...", "print('found')").run(names)
    poll = names["poll_for_changes"]
    await docket.add(poll, key="poll")(file)
    for _ in range(3):
        await testing.run_what_is_due(docket)
        await testing.assert_task_count(docket, count=1)
        await testing.assert_task_scheduled(docket, poll, args=(file,), key="poll" if keyed else None)
        await testing.advance(docket, names["POLLING_INTERVAL"])
    file.touch()
    await testing.run_what_is_due(docket)
    await testing.assert_no_tasks(docket)
    assert capsys.readouterr().out == "found\n"


async def test_retries_with_a_steady_delay(docket: Docket, capsys: pytest.CaptureFixture[str]):
    names = await example(README, "Writing tasks", 3).run({})
    await docket.add(names["faily"])()
    for _ in range(3):
        await testing.run_what_is_due(docket)
        assert capsys.readouterr().out == ""
        await testing.advance(docket, 3 * SECONDS)
    await testing.run_what_is_due(docket)
    assert capsys.readouterr().out == "whew!\n"


async def test_retries_with_growing_delays(docket: Docket, capsys: pytest.CaptureFixture[str]):
    names = await example(README, "Writing tasks", 4).run({})
    execution = await docket.add(names["faily"])()
    for delay in (2, 4, 8):
        await testing.run_what_is_due(docket)
        await testing.advance(docket, (delay - 1) * SECONDS)
        await testing.run_what_is_due(docket)
        await execution.sync()
        assert execution.state == "scheduled", f"the pause is {delay} s, and one of them is still to go"
        assert capsys.readouterr().out == ""
        await testing.advance(docket, SECONDS)
    await testing.run_what_is_due(docket)
    assert capsys.readouterr().out == "whew!\n"


async def test_running_workers(docket: Docket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my_tasks.py").write_text(example(README, "Running workers", 1).code)
    monkeypatch.syspath_prepend(tmp_path)
    running = asyncio.create_task(example(README, "Running workers", 2).run(imports()))
    for name in ("my_first_task", "my_second_task"):
        execution = await docket.add(name)()
        assert await execution.get_result(timeout=5 * SECONDS) is None
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
