"""Anybody can put anything in the stream, the queue and the records: what is ours runs, the rest is set aside."""

from __future__ import annotations

import random
from typing import Any

import pytest

from docket import Docket
from docket.store.keys import LANES, SUSPECTS
from tests.runtime.support import soon, until, work_off

RAN: list[int] = []

HONEST = 30
HOSTILE = 60


async def note(number: int) -> None:
    RAN.append(number)


def nonsense(dice: random.Random) -> bytes:
    return dice.choice(
        [b"", b"k", b"g", b"\0", b"\xff\xfe", b"-1", b"1e309", b"nan", b"0" * 300, dice.randbytes(12)]
    )


async def put_nonsense(docket: Docket, dice: random.Random, number: int) -> None:
    """An entry of a lane, a member of the queue or of a line, or a record with fields of anything."""
    keys = docket.keys
    key = f"{number}-" + dice.choice(["plain", "with:colon", "ünï", "\u2028", "%s {}", "*", "[a]"])
    async with docket.redis() as redis:
        where = dice.randrange(5)
        if where == 0:
            lane = keys.lane(dice.choice((*LANES, SUSPECTS)))
            await redis.xadd(
                lane, {nonsense(dice) or b"x": nonsense(dice) for _ in range(dice.randrange(1, 4))}
            )
            return
        if where == 1:
            await redis.xadd(keys.stream, {"k": key, "g": nonsense(dice)})
            return
        fields: dict[Any, Any] = {
            "state": dice.choice(["queued", "scheduled", "running", "completed", "mad", ""]),
            "function": dice.choice(["note", "no such task", ""]),
            "body": dice.choice([b"p" + dice.randbytes(8), b"j[[1],{}]", b"j" + b"[" * 2000, b"s" * 60, b""]),
        }
        for name in (
            "when_us",
            "generation",
            "attempt",
            "ttl_ms",
            "redelivered",
            "crashes",
            "limits",
            "permits",
        ):
            if dice.random() < 0.5:
                fields[name] = dice.choice([nonsense(dice), b"1", b"900000"])
        await redis.hset(keys.runs(key), mapping=fields)
        if where == 2:
            await redis.zadd(keys.queue, {key: dice.choice([0, -1e9, 1e300])})
            return
        lane = dice.choice(LANES)
        entry: Any = await redis.xadd(keys.lane(lane), {"k": key, "g": 1})
        await redis.hset(keys.runs(key), "entry", f"{lane}:{entry.decode()}")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.leaves_keys("records of nobody's, which the test itself has written")
async def test_a_line_full_of_nonsense_keeps_nobody_from_work(docket: Docket, seed: int):
    dice = random.Random(seed)
    RAN.clear()
    docket.register(note)
    for number in range(HONEST + HOSTILE):
        if number < HONEST:
            when = None if dice.random() < 0.7 else soon(milliseconds=dice.randrange(50))
            await docket.add(note, when, key=f"honest-{number}")(number)
        for _ in range(HOSTILE // HONEST):
            await put_nonsense(docket, dice, number)
    async with docket.redis() as redis:
        far: Any = await redis.zrangebyscore(docket.keys.queue, 1e200, "+inf")
        if far:
            await redis.zrem(docket.keys.queue, *far)  # due in the year 10^280: it may wait, the test may not
    await work_off(docket, within=15)
    await until(lambda: set(RAN) >= set(range(HONEST)))
    assert [RAN.count(number) for number in range(HONEST) if number != 1] == [1] * (HONEST - 1)
    dead = await docket.dead_letters()
    assert dead and all(each.error for each in dead)
    snapshot = await docket.snapshot()
    for each in (*snapshot.future, *snapshot.running, *snapshot.dead):
        assert repr(each)
        why = await docket.why(each.key)
        assert str(why)
    for key in ("honest-0", "honest-5"):
        found = await docket.get_execution(key)
        assert found is not None and found.state == "completed"
    await docket.clear()
    await docket.purge_dead()


@pytest.mark.leaves_keys("names of nobody's, which the test itself has written")
async def test_names_that_are_no_text_do_not_hide_what_else_there_is(docket: Docket):
    docket.register(note)
    await docket.add(note, soon(seconds=60), key="honest")(1)
    keys, name = docket.keys, b"\xff\xfe"
    async with docket.redis() as redis:
        for names in (keys.limits, keys.lifted, keys.deferred):
            await redis.sadd(names, name)
        await redis.zadd(keys.alarms, {name: 1e15})
        await redis.zadd(keys.queue, {name: 1e15})
        await redis.zadd(keys.dead, {name: 1.0})
    assert [each.key for each in (await docket.snapshot()).future] == ["honest"]
    assert await docket.limits() is not None
    await docket.clear()
