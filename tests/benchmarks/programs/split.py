"""One client or one worker of a docket that may be split: `split.py JSON`. Answers with lines of JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from typing import Any

import uvloop
import workload

from docket import Docket, Worker


def say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


async def heard() -> None:
    await asyncio.to_thread(sys.stdin.readline)


async def enqueue(docket: Docket, count: int) -> None:
    began = time.monotonic()
    await docket.add_many([docket.call(workload.nothing)(number) for number in range(count)])
    say(seconds=time.monotonic() - began)


async def work(docket: Docket, concurrency: int) -> None:
    """From the first line that it is sent until the second."""
    docket.register(workload.nothing)
    async with Worker(docket, concurrency=concurrency) as worker:
        say(ready=True)
        await heard()
        cpu = time.process_time()
        running = asyncio.create_task(worker.run_forever())
        await heard()
        say(cpu=time.process_time() - cpu)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def main(config: dict[str, Any]) -> None:
    async with Docket(name=config["docket"], url=config["url"], partitions=config["partitions"]) as docket:
        if config["role"] == "work":
            await work(docket, config["concurrency"])
        else:
            await enqueue(docket, config["count"])


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    uvloop.run(main(json.loads(sys.argv[1])))
