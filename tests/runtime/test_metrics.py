"""Metrics: what a worker and its clients count, once somebody has configured a provider.

A provider is set for a whole process and for good, so each program here is one of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import variables

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")

Counted = dict[str, dict[str, float]]
"""Metric → the last word of its labels → number."""

BEGINNING = """\
import asyncio, json, sys
from datetime import timedelta
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from docket import *
from docket import clock

reader = InMemoryMetricReader()
NAME, URL = sys.argv[1:]

def numbers():
    found = {}
    for resource in reader.get_metrics_data().resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    label = point.attributes.get("docket.task") or "-"
                    number = point.value if hasattr(point, "value") else point.count
                    found.setdefault(metric.name, {})[label] = number
                    assert point.attributes["docket.name"] == NAME
    return found

def tell():
    print(json.dumps(numbers()))

async def until(condition):
    async with asyncio.timeout(20):
        while not condition(): await asyncio.sleep(0.01)
"""

CONFIGURE = "metrics.set_meter_provider(MeterProvider([reader]))\n"

PROGRAM = """
async def good(): pass
async def bad(retry: Retry = Retry(attempts=2)): raise ValueError
async def turn(perpetual: Perpetual = Perpetual()):
    if turns.append(1) or len(turns) == 3: perpetual.cancel()
async def waits(): await asyncio.Event().wait()
def plain(): pass
turns = []

async def settled(worker):
    # All that has ended is counted, and the depths were measured after it.
    def is_so():
        found = numbers()
        depths = [found[f"docket_{name}"]["-"] for name in ("queue_depth", "schedule_depth", "dead_letters")]
        return len(worker.claims) == 1 and depths == [0, 1, 1]
    await until(is_so)

async def main():
    async with Docket(NAME, URL, heartbeat_interval=timedelta(milliseconds=50)) as docket:
        for task in (good, good, bad, turn, plain): await docket.add(task)()
        await docket.add_many([docket.call(good)() for _ in range(3)])
        await docket.replace(good, clock.now() + timedelta(hours=1), "later")()
        await docket.add(good, key="later")()
        await docket.strike(plain, "x")
        await docket.strike("struck")
        await docket.add("struck")()
        await docket.add("nobody_knows_it")()
        await docket.add(waits, key="waits")()
        async with Worker(docket, name="anna") as worker:
            run = asyncio.create_task(worker.run_forever())
            async with asyncio.timeout(20):
                while [e for e in (await docket.snapshot()).future if e.key != "later"]: await asyncio.sleep(0.01)
            await settled(worker)
            tell()
            await docket.cancel("waits")
            await docket.cancel("later")
            await until(lambda: not worker.claims and worker.exchange.settled)
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
        tell()
        await docket.restore(plain, "x"); await docket.restore("struck"); await docket.purge_dead()

asyncio.run(main())
"""


def run(folder: Path, text: str, name: str, url: str) -> list[Any]:
    (folder / "program.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "program.py", name, url],
        capture_output=True,
        text=True,
        cwd=folder,
        env=variables(),
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_everything_is_counted_by_task(tmp_path: Path, docket_name: str, redis_url: str):
    during, after = run(tmp_path, BEGINNING + CONFIGURE + PROGRAM, docket_name, redis_url)
    assert during["docket_tasks_added"] == {
        "good": 5, "bad": 1, "turn": 1, "plain": 1, "nobody_knows_it": 1, "waits": 1
    }  # fmt: skip
    assert during["docket_tasks_replaced"] == {"good": 1}
    assert during["docket_tasks_scheduled"]["good"] == 6
    assert during["docket_tasks_stricken"] == {"struck": 1}
    assert during["docket_strikes_in_effect"] == {"-": 2}
    assert during["docket_tasks_started"] == {"good": 5, "bad": 2, "turn": 3, "plain": 1, "waits": 1}
    assert during["docket_tasks_completed"] == {"good": 5, "bad": 2, "turn": 3, "plain": 1}
    assert during["docket_tasks_succeeded"] == {"good": 5, "turn": 3, "plain": 1}
    assert during["docket_tasks_failed"] == {"bad": 2} and during["docket_tasks_retried"] == {"bad": 1}
    assert during["docket_tasks_perpetuated"] == {"turn": 2}
    assert during["docket_tasks_running"] == {"good": 0, "bad": 0, "turn": 0, "plain": 0, "waits": 1}
    assert during["docket_task_duration"] == during["docket_tasks_completed"]
    assert during["docket_task_punctuality"] == during["docket_tasks_started"]
    assert during["docket_schedule_depth"] == {"-": 1} and during["docket_queue_depth"] == {"-": 0}
    assert during["docket_dead_letters"] == {"-": 1} and during["docket_queue_latency"] == {"-": 0}
    assert during["docket_cache_size"]["-"] >= 5
    assert after["docket_tasks_cancelled"] == {"-": 2}
    assert after["docket_tasks_superseded"] == {"-": 1}
    assert after["docket_tasks_running"]["waits"] == 0
    assert after["docket_tasks_completed"]["waits"] == 1 and "waits" not in after["docket_tasks_succeeded"]


def test_an_outage_is_a_disruption(tmp_path: Path, docket_name: str, own_redis: Any):
    program = """
async def main():
    async with Docket(NAME, URL) as docket:
        async with Worker(docket) as worker:
            run = asyncio.create_task(worker.run_forever())
            while worker.hindrance: await asyncio.sleep(0.01)
            async with docket.redis() as redis:
                try: await redis.execute_command("SHUTDOWN", "NOSAVE")
                except Exception: pass
            while not worker.hindrance: await asyncio.sleep(0.01)
            assert worker.hindrance == "Redis is away"
            tell()
            import os; sys.stdout.flush(); os._exit(0)

asyncio.run(main())
"""
    (counted,) = run(tmp_path, BEGINNING + CONFIGURE + program, docket_name, own_redis.url)
    assert counted["docket_redis_disruptions"] == {"-": 1}


def test_without_a_provider_nothing_is_counted_or_even_loaded(
    tmp_path: Path, docket_name: str, redis_url: str
):
    program = PROGRAM.replace("tell()", "print(json.dumps('docket.instruments' in sys.modules))").replace(
        "await settled(worker)", "await until(lambda: len(worker.claims) == 1)"
    )
    assert run(tmp_path, BEGINNING + program, docket_name, redis_url) == [False, False]


def test_a_board_that_counts_is_still_the_board_it_stands_for():
    from docket_runtime.board import NullBoard
    from docket_runtime.telemetry import CountingBoard

    class Watching(NullBoard):
        def __init__(self) -> None:
            self.heard: list[Any] = []

        def started(self, task: str, redelivered: bool, late: float) -> None:
            self.heard.append(("started", task, redelivered, late))

        def finished(self, task: str, outcome: str, failed: bool, seconds: float) -> None:
            self.heard.append(("finished", task, outcome, failed, seconds))

        def phase(self, phase: str) -> None:
            self.heard.append(phase)

        @property
        def drain_at(self) -> float | None:
            return 7.0

    inner = Watching()
    board = CountingBoard(inner, "d", "w")
    board.phase("working")
    board.started("f", True, 0.5)
    board.finished("f", "retry", True, 1.5)
    assert inner.heard == ["working", ("started", "f", True, 0.5), ("finished", "f", "retry", True, 1.5)]
    assert board.drain_at == 7.0 and board.quiet is False
