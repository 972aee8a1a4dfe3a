"""One client or one worker, with docket and with pydocket alike: `contestant.py JSON`. Answers with lines of JSON.

The client runs on asyncio's own loop with both; each worker on the loop that its own command line would choose.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import workload

from docket import Docket, Worker

Config = dict[str, Any]


def say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


async def heard() -> str:
    """The next line from whoever started us; empty when there will be none."""
    return await asyncio.to_thread(sys.stdin.readline)


async def enqueue(docket: Docket, config: Config) -> None:
    """`count` tasks lie there, added one at a time or in bulk."""
    task, first = getattr(workload, config["task"]), config.get("first", 0)
    numbers = range(first, first + config["count"])
    began, cpu = time.monotonic(), time.process_time()
    if config["bulk"]:
        await docket.add_many([docket.call(task)(number) for number in numbers])
    else:
        for number in numbers:
            await docket.add(task)(number)
    say(seconds=time.monotonic() - began, cpu=time.process_time() - cpu)


async def trickle(docket: Docket, config: Config) -> None:
    """Tasks are added one by one to a system that has nothing else to do; answers with the moments before."""
    moments: list[float] = []
    for number in range(config["count"]):
        await asyncio.sleep(random.uniform(0.010, 0.030))
        moments.append(time.monotonic())
        await docket.add(workload.nothing)(number)
    say(moments=moments)


async def plan(docket: Docket, config: Config) -> None:
    """Tasks are due within `over` seconds, or all at one moment; answers with the moments."""
    first = time.time() + config["ahead"]
    to_monotonic = time.monotonic() - time.time()
    moments = [first + config["over"] * number / config["count"] for number in range(config["count"])]
    await docket.add_many(
        [
            docket.call(workload.nothing, when=datetime.fromtimestamp(moment, UTC))(number)
            for number, moment in enumerate(moments)
        ]
    )
    say(moments=[moment + to_monotonic for moment in moments])


async def work(docket: Docket, config: Config) -> None:
    """A worker, from the first line that it is sent until the second."""
    for task in workload.tasks:
        docket.register(task)
    interval = timedelta(milliseconds=config["interval_ms"])
    async with Worker(
        docket,
        concurrency=config["concurrency"],
        minimum_check_interval=interval,
        scheduling_resolution=interval,
    ) as worker:
        say(ready=True)
        await heard()
        cpu = time.process_time()
        running = asyncio.create_task(worker.run_forever())
        await heard()
        say(cpu=time.process_time() - cpu)
        running.cancel()
        try:
            await running
        except asyncio.CancelledError:
            pass


ROLES = {"enqueue": enqueue, "trickle": trickle, "plan": plan, "work": work}


async def main(config: Config) -> None:
    async with Docket(name="bench", url=config["url"]) as docket:
        await ROLES[config["role"]](docket, config)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    config: Config = json.loads(sys.argv[1])
    if workload.is_ours and config["role"] == "work":
        import uvloop

        uvloop.run(main(config))
    else:
        asyncio.run(main(config))
