"""One client or one worker beside a backlog: `backlog.py JSON`. Answers with one line of JSON.

Whatever it measures of itself it measures in a process that does nothing else, memory above all.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import sys
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import uvloop

from docket import Docket, Worker

Config = dict[str, Any]
Role = Callable[[Docket, Config], Coroutine[Any, Any, dict[str, Any]]]


class Runs:
    """What the task writes down: when each run began, by its number."""

    def __init__(self) -> None:
        self.starts: dict[int, float] = {}
        self.wanted = 0
        self.reached = asyncio.Event()

    async def nothing(self, number: int) -> None:
        self.starts[number] = time.time()
        if len(self.starts) >= self.wanted:
            self.reached.set()


def _rss() -> float:
    """MiB at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _when(config: Config) -> datetime | None:
    return datetime.now(UTC) + timedelta(hours=1) if config["parked"] else None


async def fill(docket: Docket, config: Config) -> dict[str, Any]:
    """`count` calls of `first`, `first` + 1, … lie there, added in bulk."""
    numbers = range(config["first"], config["first"] + config["count"])
    when, cpu, seconds = _when(config), time.process_time(), 0.0
    for start in range(0, len(numbers), 50_000):
        calls = [docket.call("nothing", when, f"k{n}")(n) for n in numbers[start : start + 50_000]]
        began = time.monotonic()
        await docket.add_many(calls)
        seconds += time.monotonic() - began
    return {"seconds": seconds, "cpu": time.process_time() - cpu}


async def add_singly(docket: Docket, config: Config) -> dict[str, Any]:
    when, cpu, began = _when(config), time.process_time(), time.monotonic()
    for n in range(config["first"], config["first"] + config["count"]):
        await docket.add("nothing", when, f"k{n}")(n)
    return {"seconds": time.monotonic() - began, "cpu": time.process_time() - cpu}


async def verbs(docket: Docket, config: Config) -> dict[str, Any]:
    """So many of each a second, spread evenly over the backlog; what was cancelled is added again."""
    count, when = config["count"], _when(config)
    step = max(1, config["backlog"] // count)
    keys = [f"k{n * step}" for n in range(count)]
    rates: dict[str, Any] = {}

    async def measure(name: str, verb: Callable[[str], Coroutine[Any, Any, Any]]) -> None:
        began = time.monotonic()
        for key in keys:
            await verb(key)
        rates[name] = count / (time.monotonic() - began)

    async def found(key: str) -> None:
        assert await docket.get_execution(key) is not None

    await measure("get_execution", found)
    await measure("replace", lambda key: docket.replace("nothing", when, key)(0))
    await measure("cancel", docket.cancel)
    await docket.add_many([docket.call("nothing", when, key)(0) for key in keys])
    return rates


async def snapshot(docket: Docket, config: Config) -> dict[str, Any]:
    before, began = _rss(), time.monotonic()
    taken = await docket.snapshot(**config["options"])
    return {"seconds": time.monotonic() - began, "mib": _rss() - before, "total": taken.total_tasks}


async def clear(docket: Docket, config: Config) -> dict[str, Any]:
    began = time.monotonic()
    cleared = await docket.clear()
    return {"seconds": time.monotonic() - began, "cleared": cleared}


async def drain(docket: Docket, config: Config) -> dict[str, Any]:
    """A worker comes, runs `count` of the backlog, and leaves in the middle of it."""
    runs = Runs()
    runs.wanted = config["count"]
    docket.register(runs.nothing, names=["nothing"])
    arrived, cpu = time.time(), time.process_time()
    async with Worker(docket, concurrency=config["concurrency"]) as worker:
        running = asyncio.create_task(worker.run_forever())
        await runs.reached.wait()
        moments = sorted(runs.starts.values())[: config["count"]]
        used, leaving = time.process_time() - cpu, time.time()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return {
        "seconds": moments[-1] - moments[0],
        "cpu": used,
        "until_first": moments[0] - arrived,
        "leaving": time.time() - leaving,
        "ran": len(runs.starts),
    }


async def due(docket: Docket, config: Config) -> dict[str, Any]:
    """`count` are due at one moment; how late each of them began, in milliseconds."""
    runs = Runs()
    runs.wanted = count = config["count"]
    docket.register(runs.nothing, names=["nothing"])
    async with Worker(docket, concurrency=config["concurrency"]) as worker:
        running = asyncio.create_task(worker.run_forever())
        moment = time.time() + 1.5
        when = datetime.fromtimestamp(moment, UTC)
        await docket.add_many([docket.call("nothing", when, f"due{n}")(-n) for n in range(count)])
        await runs.reached.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return {"lags": [(start - moment) * 1e3 for start in sorted(runs.starts.values())]}


ROLES: dict[str, Role] = {
    each.__name__: each for each in (fill, add_singly, verbs, snapshot, clear, drain, due)
}


async def main(config: Config) -> None:
    async with Docket(name="bench", url=config["url"]) as docket:
        print(json.dumps(await ROLES[config["role"]](docket, config)), flush=True)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    uvloop.run(main(json.loads(sys.argv[1])))
