"""The least that a consumer with redis-py can do, as a measure for the rest: `floor.py JSON`.

No state, no results, no leases, no retries: XREADGROUP COUNT 100, call, XACK and XDEL riding with the next read.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import sys
import time
from typing import Any

import redis.asyncio
import redis.exceptions
import uvloop
from marks import Marks

Config = dict[str, Any]
STREAM, GROUP = "floor", "floor"
marks = Marks()


def say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


async def nothing(number: int) -> None:
    marks.mark(number)


def nothing_sync(number: int) -> None:
    marks.mark(number)


async def enqueue(client: redis.asyncio.Redis, config: Config) -> None:
    count, began, cpu = config["count"], time.monotonic(), time.process_time()
    bodies = (pickle.dumps((config["task"], (number,), {}), 5) for number in range(count))
    if config["bulk"]:
        for _ in range(0, count, 1000):
            async with client.pipeline(transaction=False) as pipeline:
                for _, body in zip(range(1000), bodies, strict=False):
                    pipeline.xadd(STREAM, {"body": body})
                await pipeline.execute()
    else:
        for body in bodies:
            await client.xadd(STREAM, {"body": body})
    say(seconds=time.monotonic() - began, cpu=time.process_time() - cpu)


async def trickle(client: redis.asyncio.Redis, config: Config) -> None:
    moments: list[float] = []
    for number in range(config["count"]):
        await asyncio.sleep(0.020)
        moments.append(time.monotonic())
        await client.xadd(STREAM, {"body": pickle.dumps(("nothing", (number,), {}), 5)})
    say(moments=moments)


async def work(client: redis.asyncio.Redis, config: Config) -> None:
    try:
        await client.xgroup_create(STREAM, GROUP, "0", mkstream=True)
    except redis.exceptions.ResponseError:
        pass  # another worker was quicker
    say(ready=True)
    await asyncio.to_thread(sys.stdin.readline)
    cpu = time.process_time()
    running = asyncio.create_task(_consume(client))
    await asyncio.to_thread(sys.stdin.readline)
    say(cpu=time.process_time() - cpu)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def _consume(client: redis.asyncio.Redis) -> None:
    loop = asyncio.get_running_loop()
    name, done = str(os.getpid()), []
    while True:
        async with client.pipeline(transaction=False) as pipeline:
            if done:
                pipeline.xack(STREAM, GROUP, *done)
                pipeline.xdel(STREAM, *done)
            # A pipeline must not block: it would hold its own answers back. So a read that blocks goes alone.
            pipeline.xreadgroup(GROUP, name, {STREAM: ">"}, count=100)
            reply: Any = (await pipeline.execute())[-1]
        reply = reply or await client.xreadgroup(GROUP, name, {STREAM: ">"}, count=100, block=1000)
        done = [entry for _, entries in reply for entry, _ in entries]
        bodies = [pickle.loads(fields[b"body"]) for _, entries in reply for _, fields in entries]
        if bodies and bodies[0][0] == "nothing_sync":
            numbers = [args[0] for _, args, _ in bodies]
            await asyncio.gather(*(loop.run_in_executor(None, nothing_sync, number) for number in numbers))
        else:
            for _, args, kwargs in bodies:
                await nothing(*args, **kwargs)


async def main(config: Config) -> None:
    client = redis.asyncio.Redis.from_url(config["url"], protocol=2)
    async with client:
        await {"enqueue": enqueue, "trickle": trickle, "work": work}[config["role"]](client, config)


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.argv[1])))
