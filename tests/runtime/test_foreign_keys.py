"""Something foreign at one of our keys: a clear error that names the key, and nothing else is harmed."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any

import pytest

from docket import Docket, Worker
from docket.errors import SchedulingFailed
from docket.store.keys import KINDS, Keys, kind_of, singles
from docket.store.refusals import ForeignKey
from docket.sync import Docket as BlockingDocket
from tests.runtime.support import soon, until, work_off

ONLY_WORKERS = ("known", "limited", "timekeeper", "unasked", "waiters")
"""Clients never look there, or only if there are limits."""

NAMED = re.compile(r"the key '([^']+)' in Redis holds a (\w+), where docket keeps a (\w+)")


async def note(what: Any = None) -> Any:
    return what


async def put_something_foreign(docket: Docket, name: str) -> None:
    async with docket.redis() as redis:
        await redis.delete(name)
        if kind_of(name) == "string":
            await redis.hset(name, "a", "b")
        else:
            await redis.set(name, "something foreign")


async def take_away(docket: Docket, name: str) -> None:
    async with docket.redis() as redis:
        await redis.delete(name)


@pytest.mark.parametrize("word", sorted(each.removeprefix("d:") for each in singles(Keys("d"))))
async def test_every_operation_that_meets_it_names_the_key(docket: Docket, word: str):
    name = f"{docket.keys.prefix}:{word}"
    await put_something_foreign(docket, name)
    problems: list[Exception] = []
    for operation in (
        lambda: docket.add(note, key="now")(1),
        lambda: docket.add(note, soon(days=1), key="later")(1),
        lambda: docket.snapshot(),
        lambda: docket.cancel("later"),
        lambda: docket.clear(),
        lambda: docket.strike("other"),
        lambda: docket.restore("other"),
        lambda: docket.limits(),
        lambda: docket.dead_letters(),
        lambda: docket.workers(),
    ):
        try:
            await operation()
        except (ForeignKey, SchedulingFailed) as error:
            problems.append(error)
    assert problems or word in ONLY_WORKERS
    for problem in problems:
        found = NAMED.search(str(problem))
        assert found is not None and found[1] == name and found[3] == KINDS[word.split(":")[0]], str(problem)
    await take_away(docket, name)
    await docket.add(note, key="after")(1)
    await docket.clear()
    await docket.cancel("later")
    await work_off(docket)
    async with docket.redis() as redis:
        await redis.delete(docket.keys.strikes)


@pytest.mark.parametrize("word", ["stream", "queue", "strikes", "generations"])
async def test_a_worker_says_which_key_it_is_and_goes_on_when_that_is_gone(
    docket: Docket, word: str, caplog: pytest.LogCaptureFixture
):
    name = f"{docket.keys.prefix}:{word}"
    if word != "generations":
        await docket.add(note, key="k")(1)
    await put_something_foreign(docket, name)
    async with Worker(docket) as worker:
        if word == "generations":
            with pytest.raises((ForeignKey, SchedulingFailed), match=NAMED):
                await docket.add(note, key="k")(1)
            await take_away(docket, name)
        running = asyncio.create_task(worker.run_forever())
        try:
            if word != "generations":
                await until(lambda: f"the key '{name}' in Redis holds a string" in caplog.text)
                assert "Redis refuses" in caplog.text
                await take_away(docket, name)
            again = await docket.add(note, key="again")(2)
            assert await asyncio.wait_for(again.get_result(), 10) == 2
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
    await docket.clear()


async def test_a_record_of_another_kind_is_named_and_left_alone(docket: Docket):
    await put_something_foreign(docket, docket.keys.runs("k"))
    with pytest.raises(SchedulingFailed, match=NAMED) as caught:
        await docket.add(note, key="k")(1)
    assert f"'{docket.keys.runs('k')}'" in str(caught.value)
    with pytest.raises(ForeignKey, match=NAMED):
        await docket.get_execution("k")
    good, bad = await docket.add_many([docket.call(note, key="good")(1), docket.call(note, key="k")(1)])
    assert good.disposition == "scheduled" and NAMED.search(str(bad.schedule_exception))
    await work_off(docket)
    assert await good.get_result() == 1
    await take_away(docket, docket.keys.runs("k"))


def test_the_blocking_client_names_it_as_well(docket_name: str, redis_url: str):
    with BlockingDocket(docket_name, redis_url) as docket:
        with docket.redis() as redis:
            redis.set(docket.keys.runs("k"), "foreign")
        with pytest.raises(ForeignKey, match=NAMED):
            docket.get_execution("k")
        with docket.redis() as redis:
            redis.delete(docket.keys.runs("k"))
