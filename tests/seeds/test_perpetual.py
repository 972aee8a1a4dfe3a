"""The examples of "Perpetual Tasks"."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from docket import Docket, Execution, Perpetual, Worker, testing
from tests.seeds.conftest import Noted
from tests.seeds.documents import PATTERNS, example, imports

MINUTE = timedelta(minutes=1)


async def next_run(docket: Docket) -> Execution:
    """What alone is scheduled."""
    (following,) = (await docket.snapshot()).future
    return following


async def is_due_in(docket: Docket, delay: timedelta) -> bool:
    following = await next_run(docket)
    return abs(following.when - datetime.now(UTC) - delay) < timedelta(seconds=5)


class HttpClient:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_well = True

    async def get(self, url: str) -> HttpClient:
        self.asked.append(url)
        return self

    def raise_for_status(self) -> None:
        if not self.is_well:
            raise ValueError("503")


async def test_basic(docket: Docket, noted: Noted, capsys: pytest.CaptureFixture[str]):
    client = HttpClient()
    names = imports(docket=docket, http_client=client, **noted.all("send_alert"))
    await example(PATTERNS, "Basic Perpetual Tasks").run(names)
    key = (await next_run(docket)).key
    await testing.run_what_is_due(docket)
    assert capsys.readouterr().out == "✓ https://api.example.com is healthy\n"
    assert await is_due_in(docket, 5 * MINUTE) and (await next_run(docket)).key == key
    client.is_well = False
    await testing.advance(docket, 5 * MINUTE)
    await testing.run_what_is_due(docket)
    assert capsys.readouterr().out == "✗ https://api.example.com failed health check: 503\n"
    assert noted.calls == [("send_alert", "Service https://api.example.com is down")]
    assert await is_due_in(docket, 5 * MINUTE)
    assert client.asked == ["https://api.example.com/health"] * 2


async def test_automatic(docket: Docket, noted: Noted, capsys: pytest.CaptureFixture[str]):
    names = imports(docket=docket, Perpetual=Perpetual, cleanup_old_records=noted("cleanup_old_records", 7))
    await example(PATTERNS, "Automatic Startup").run(names)
    await testing.assert_no_tasks(docket)
    async with Worker(docket) as worker:
        running = asyncio.create_task(worker.run_forever())
        async with asyncio.timeout(5):
            while not (await docket.snapshot()).future:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert capsys.readouterr().out == "Cleaned up 7 old records\n"
    assert await is_due_in(docket, 60 * MINUTE) and (await next_run(docket)).key == "background_cleanup"


async def test_self_cancelling(docket: Docket, noted: Noted, capsys: pytest.CaptureFixture[str]):
    statuses = ["building", "rolling", "completed"]
    names = imports(
        Perpetual=Perpetual,
        check_deployment_status=noted("check_deployment_status", lambda _: statuses.pop(0)),
        **noted.all("notify_deployment_finished"),
    )
    await example(PATTERNS, "Self-Canceling Tasks").run(names)
    await docket.add(names["monitor_deployment"])("d1")
    for _ in range(3):
        await testing.run_what_is_due(docket)
        await testing.advance(docket, timedelta(seconds=30))
    assert capsys.readouterr().out == "Deployment d1 status: building\nDeployment d1 status: rolling\n"
    assert noted.calls[-1] == ("notify_deployment_finished", "d1", "completed")
    await testing.assert_no_tasks(docket)


async def test_other_arguments_and_another_pace(
    docket: Docket, noted: Noted, capsys: pytest.CaptureFixture[str]
):
    loads = [0.9, 0.1]
    names = imports(Perpetual=Perpetual, check_api_load=noted("check_api_load", lambda _: loads.pop(0)))
    await example(PATTERNS, "Dynamic Parameters").run(names)
    await docket.add(names["adaptive_rate_limiter"])("/orders")
    await testing.run_what_is_due(docket)
    assert await is_due_in(docket, timedelta(seconds=30)) and (await next_run(docket)).args == ("/orders", 50)
    await testing.advance(docket, timedelta(seconds=30))
    await testing.run_what_is_due(docket)
    assert await is_due_in(docket, MINUTE) and (await next_run(docket)).args == ("/orders", 55)
    assert capsys.readouterr().out.splitlines() == [
        "High load detected, reducing rate to 50 req/min",
        "Normal load, increasing rate to 55 req/min",
    ]


async def test_it_goes_on_whether_it_succeeds_or_fails(
    docket: Docket, noted: Noted, capsys: pytest.CaptureFixture[str]
):
    outcomes: list[Any] = [ConnectionError("no route"), None, ConnectionError("again")]

    def sync(_: str) -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    names = imports(Perpetual=Perpetual, sync_data_from_source=noted("sync_data_from_source", sync))
    await example(PATTERNS, "Error Resilience").run(names)
    await docket.add(names["resilient_sync"])("https://source")
    for _ in range(3):
        await testing.run_what_is_due(docket)
        assert await is_due_in(docket, 15 * MINUTE)
        await testing.advance(docket, 15 * MINUTE)
    assert outcomes == []
    assert capsys.readouterr().out == "Successfully synced data from https://source\n"


async def test_find_and_flood(docket: Docket, noted: Noted, capsys: pytest.CaptureFixture[str]):
    class Order:
        def __init__(self, id: int) -> None:
            self.id = id

    class Database:
        fetch_pending_orders = staticmethod(noted("fetch_pending_orders", [Order(1), Order(2), Order(3)]))

    steps = ("process_order_payment", "update_inventory", "send_confirmation_email")
    names = imports(database=Database, **noted.all(*steps))
    await example(PATTERNS, "Find & Flood Pattern").run(names)
    await docket.add(names["find_pending_orders"])()
    await testing.run_what_is_due(docket)
    assert capsys.readouterr().out == "Queued 3 orders for processing\n"
    assert sorted(noted.calls[1:]) == sorted((step, order) for step in steps for order in (1, 2, 3))
    assert (await next_run(docket)).function_name == "find_pending_orders"
    assert await is_due_in(docket, MINUTE)
