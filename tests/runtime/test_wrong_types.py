"""Something foreign at whichever of our keys, in the middle of all kinds of work: it is named, the rest goes on, and
when it has been taken away nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from docket import ConcurrencyLimit, Cooldown, Debounce, Docket, Execution, Progress, RateLimit, Retry, Worker
from docket.errors import SchedulingFailed
from docket.execution import ExecutionProgress
from docket.store.keys import KINDS, kind_of
from docket.store.refusals import ForeignKey
from tests import foreign
from tests.runtime.support import soon, until

NAMED = re.compile(r"the key '([^']+)' in Redis holds a (\w+), where docket keeps a (\w+)")
RAN: Counter[str] = Counter()
ENDED = ("completed", "cancelled")
SOON = timedelta(milliseconds=30)


async def quick(key: str) -> str:
    RAN[key] += 1
    return key


async def telling(key: str, progress: ExecutionProgress = Progress()) -> None:
    RAN[key] += 1
    await progress.set_total(10)
    await progress.increment(3)


async def limited(key: str, limit: ConcurrencyLimit = ConcurrencyLimit(max_concurrent=2)) -> None:
    await asyncio.sleep(0.01)
    RAN[key] += 1


async def rated(key: str, limit: RateLimit = RateLimit(5, per=timedelta(milliseconds=200))) -> None:
    RAN[key] += 1


async def cooled(key: str, limit: Cooldown = Cooldown(SOON)) -> None:
    RAN[key] += 1


async def debounced(key: str, limit: Debounce = Debounce(SOON)) -> None:
    RAN[key] += 1


async def shaky(key: str, retry: Retry = Retry(attempts=5, delay=SOON)) -> None:
    if retry.attempt < 3:
        raise ValueError("not yet")
    RAN[key] += 1


TASKS: tuple[Callable[..., Awaitable[Any]], ...] = (
    *(quick, telling, limited, rated, cooled, debounced, shaky),
)


@dataclass
class Scene:
    """All kinds of calls again and again, and what became of asking for them."""

    docket: Docket
    redis: Any
    asked: dict[str, Execution] = field(default_factory=dict[str, Execution])
    refused: list[str] = field(default_factory=list[str])

    async def add(self, name: str, key: str, **delay: float) -> None:
        try:
            self.asked[key] = await self.docket.add(name, soon(**delay) if delay else None, key=key)(key)
        except (SchedulingFailed, ForeignKey) as error:
            self.refused.append(str(error))

    async def some_of_everything(self, batch: str) -> None:
        for task in TASKS:
            name = task.__name__
            for number in range(3):
                await self.add(name, f"{name}-{batch}-{number}")
            await self.add(name, f"{name}-{batch}-later", milliseconds=60)

    async def limits_of(self, task: str) -> list[str]:
        """The names under which Redis keeps what this task's limits are about."""
        await self.add(task, f"{task}-asked", days=1)
        stored: Any = await self.redis.hget(self.docket.keys.runs(f"{task}-asked"), "limits")
        if stored is None:
            return [f"{self.docket.name}:{task}", task]
        return [row[1] for row in json.loads(stored)]

    async def states(self) -> dict[str, str]:
        found = {key: await self.docket.get_execution(key) for key in self.asked}
        return {key: str(each.state) if each is not None else "gone" for key, each in found.items()}


async def names_of(word: str, scene: Scene) -> list[str]:
    """The keys of this kind that the work to come has to do with."""
    keys = scene.docket.keys
    lanes = {
        "stream": keys.stream,
        "high": keys.high,
        "low": keys.low,
        "redelivered": keys.redelivered,
        "suspects": keys.suspects,
    }
    if word in lanes:
        return [lanes[word]]
    if word in ("concurrency", "waiting"):
        return [f"{keys.prefix}:{word}:{name}" for name in await scene.limits_of("limited")]
    if word in ("throttled", "rates"):
        return [f"{keys.prefix}:{word}:{name}" for name in await scene.limits_of("rated")]
    if word in ("cooldowns", "debounces"):
        task = {"cooldowns": "cooled", "debounces": "debounced"}[word]
        return [f"{keys.prefix}:{word}:{name}" for name in await scene.limits_of(task)]
    if word in ("runs", "results", "progress"):
        return [f"{keys.prefix}:{word}:{name}-b-0" for name in ("quick", "telling", "limited", "shaky")]
    if word == "orphans":
        return [f"{keys.prefix}:{word}:{name}" for name in ("quick", "nobody knows it")]
    if word in ("worker", "tasks"):
        return [key.decode() for key in await scene.redis.keys(f"{keys.prefix}:{word}:*")]
    if word == "held":
        return [f"{keys.prefix}:held:{rule.decode()}" for rule, _ in await scene.redis.xrange(keys.strikes)]
    return [f"{keys.prefix}:{word}"]


async def plant(redis: Any, name: str) -> None:
    """Who mends it puts back what was there. (Not who holds a permit: some will have given theirs up by then.)"""
    await foreign.plant(redis, name, aside="" if ":concurrency:" in name else f"aside:{name}")


async def mend(redis: Any, name: str) -> None:
    """In one step: a worker that finds no roll at all takes itself for struck off."""
    if await redis.exists(f"aside:{name}"):
        await redis.rename(f"aside:{name}", name)
    elif await redis.type(name) == (b"hash" if kind_of(name) == "string" else b"string"):
        await redis.delete(name)


LANES = ("high", "low", "redelivered", "suspects")
UNTOUCHED = {
    "answers": "a request that is sent again looks there, and its name is random",
    "known": "looked at when a worker enlists",
    "partitions": "looked at when a docket is opened",
    "tasks": "looked at when a worker enlists, or does not know a task",
    "results": "a result takes the place of whatever was there",
    "worker": "looked at when workers are listed or leave",
    "timekeeper": "set anew whenever something is promoted",
    "deferred": "for keys that are replaced while they run",
    "held": "for what a rule holds",
    "dead": "for dead letters",
    "suspects": "for what was running when its worker died",
    "low": "for low priority",
}
"""Not met by this work: then nothing is told, and nothing may be hindered."""


@pytest.mark.parametrize("word", [*KINDS, *LANES])
async def test_it_is_named_the_rest_goes_on_and_nothing_is_lost(
    docket: Docket, word: str, caplog: pytest.LogCaptureFixture
):
    RAN.clear()
    for task in TASKS:
        docket.register(task)
    async with docket.redis() as redis, Worker(docket, concurrency=8) as worker:
        scene = Scene(docket, redis)
        await docket.strike("nobody", hold=True)
        running = asyncio.create_task(worker.run_forever())
        try:
            await scene.some_of_everything("a")
            await until(lambda: RAN["quick-a-0"])
            names = await names_of(word, scene)
            assert names
            for name in names:
                await plant(redis, name)
            await scene.some_of_everything("b")
            await scene.add("nobody knows it", "unknown")
            before = await asked_so_far(redis)
            await asyncio.sleep(0.6)  # not for something: this is how long it lies there
            assert await asked_so_far(redis) - before < 300, "it asks and asks"
            assert not running.done()
            for name in names:
                await mend(redis, name)
            told = await what_was_told(scene, caplog)
            assert "WRONGTYPE" not in "".join(told)
            named = {found[1] for each in told if (found := NAMED.search(each))}
            assert named <= set(names) and (named or word in UNTOUCHED), told
            await everything_comes_to_its_end(scene)
            assert not running.done()
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        await docket.restore("nobody")
        for task in TASKS:
            await docket.cancel(f"{task.__name__}-asked")
        await docket.purge_dead()


async def asked_so_far(redis: Any) -> int:
    found = (await redis.info("commandstats")).get("cmdstat_evalsha", {})
    return int(found.get("calls", 0)) + int(found.get("rejected_calls", 0))


async def what_was_told(scene: Scene, caplog: pytest.LogCaptureFixture) -> list[str]:
    """To whoever asked, in the log, and about what was set aside."""
    dead = [letter.error or "" for letter in await scene.docket.dead_letters()]
    logged = [each.getMessage() for each in caplog.records]
    found = [await scene.docket.get_execution(key) for key in scene.asked]
    dead += [each.error for each in found if each is not None and each.error]
    return [*scene.refused, *dead, *(each for each in logged if "holds a" in each or "WRONGTYPE" in each)]


async def everything_comes_to_its_end(scene: Scene) -> None:
    await scene.add("quick", "after")
    async with asyncio.timeout(10):
        for letter in await scene.docket.dead_letters():
            if letter.key in scene.asked and letter.key != "unknown":
                await scene.docket.retry_dead(letter.key)
        while under_way := {
            key: state
            for key, state in (await scene.states()).items()
            if state in ("scheduled", "queued", "running") and not key.endswith("-asked")
        }:
            assert under_way
            await asyncio.sleep(0.02)
    for key, state in (await scene.states()).items():
        if key.endswith("-asked") or key == "unknown":
            continue
        found = await scene.docket.get_execution(key)
        assert state in ENDED or (found is not None and NAMED.search(found.error or "")), (key, state)
        assert RAN[key] == (1 if state == "completed" else 0) or state == "failed", key
