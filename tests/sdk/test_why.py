"""`why`: each answer to the question what keeps an execution from running."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from docket import ConcurrencyLimit, ConcurrencyStrategy, Docket, Execution, RateLimit, Retry
from docket.store import scripts
from docket.sync import Docket as BlockingDocket
from docket_runtime.surroundings import Surroundings
from tests.runtime.support import Gate, Watched, now, running, soon, until, work_off

HOUR = timedelta(hours=1)
NOBODY = "no worker is alive"


async def reasons(docket: Docket, key: str) -> list[str]:
    return list((await docket.why(key)).reasons)


async def until_it_says(docket: Docket, key: str, *words: str) -> list[str]:
    async with asyncio.timeout(5):
        while True:
            found = await reasons(docket, key)
            if all(any(word in reason for reason in found) for word in words):
                return found
            await asyncio.sleep(0.01)


async def test_nothing_is_known(docket: Docket):
    found = await docket.why("k")
    assert (found.key, found.state) == ("k", None)
    assert str(found) == "nothing is known of this key: it never existed, or its record has expired"


async def test_it_has_ended(docket: Docket):
    async def fails() -> None:
        raise ValueError("no such order")

    await docket.add("trace", key="done")("x")
    await docket.add(fails, key="failed")()
    await docket.add(fails, key="cancelled")()
    await docket.cancel("cancelled")
    await work_off(docket)
    assert await reasons(docket, "done") == ["it is not waiting: it has ended completed"]
    assert await reasons(docket, "failed") == [
        "it is not waiting: it has ended failed: ValueError: no such order"
    ]
    assert (await reasons(docket, "cancelled"))[0].startswith("it is not waiting: it has ended cancelled")
    assert (await docket.why("done")).state == "completed"


async def test_it_is_parked_until_it_is_due(docket: Docket):
    when = soon(hours=2)
    await docket.add("trace", when=when, key="k")("x")
    found = await docket.why("k")
    assert found.state == "scheduled"
    assert found.reasons == (f"it is parked until {when.isoformat()} (in 2h)", NOBODY)


async def test_it_is_a_retry_that_has_a_pause(docket: Docket):
    async def fails(retry: Retry = Retry(attempts=2, delay=HOUR)) -> None:
        raise ValueError

    await docket.add(fails, key="k")()
    async with running(docket):
        (reason,) = await until_it_says(docket, "k", "parked until")
        assert reason.endswith(("(in 1h)", "(in 59m59s)")), reason
    await docket.cancel("k")


async def test_it_is_due_and_nobody_has_taken_it_up(docket: Docket):
    await docket.add("trace", when=soon(milliseconds=300), key="k")("x")
    found = await until_it_says(docket, "k", "no worker has taken it up yet")
    assert found[0].startswith("it has been due for ") and found[1:] == [NOBODY]


async def test_it_is_in_line_and_no_worker_is_alive(docket: Docket):
    for key in "abc":
        await docket.add("trace", key=key)("x")
    assert await reasons(docket, "a") == ["it is in line, as the first", NOBODY]
    assert await reasons(docket, "c") == ["it is in line, behind 2 others", NOBODY]


@pytest.mark.parametrize("level", ["high", "low"])
async def test_it_is_in_line_among_those_of_its_priority(docket: Docket, level: str):
    for key in "ab":
        await docket.add("trace", key=key, priority=level)("x")
    assert (await reasons(docket, "b"))[0] == f"it is in line, behind 1 other of {level} priority"


async def test_no_worker_knows_the_task(docket: Docket):
    await docket.add("mystery", when=soon(hours=1), key="k")()
    async with running(docket):
        assert (await reasons(docket, "k"))[1:] == ["the one worker alive does not know the task 'mystery'"]
        async with running(docket):
            assert (await reasons(docket, "k"))[1:] == [
                "none of the 2 workers alive knows the task 'mystery'"
            ]


async def test_it_was_set_aside(docket: Docket):
    await docket.add("mystery", key="k")()
    await work_off(docket)
    aside, unknown, hint = await reasons(docket, "k")
    assert aside.startswith("it was set aside as a dead letter: ") and "mystery" in aside
    assert unknown == "no worker that is alive knows the task 'mystery'"
    assert hint == "`docket dead retry k` puts it in line again"
    assert (await docket.why("k")).state == "failed"


async def test_every_slot_is_busy(docket: Docket):
    gate = Gate()
    docket.register(gate, names=["gate"])
    async with running(docket, concurrency=1):
        await docket.add("gate", key="a")()
        await gate.has_begun()
        await docket.add("gate", key="b")()
        assert await until_it_says(docket, "b", "in line") == ["it is in line, as the first"]
        gate.open.set()
        await until(lambda: len(gate.log) == 4)


async def test_it_is_running(docket: Docket):
    gate = Gate()
    docket.register(gate, names=["gate"])
    async with running(docket, name="anna"):
        await docket.add("gate", key="k")()
        await gate.has_begun()
        found = await docket.why("k")
        assert found.state == "running"
        assert found.reasons[0].startswith("it is running, on worker anna for ")
        assert len(found.reasons) == 1
        gate.open.set()
        await until(lambda: len(gate.log) == 2)


async def test_an_earlier_run_of_its_key_goes_on(docket: Docket):
    gate = Gate()
    docket.register(gate, names=["gate"])
    async with running(docket, name="anna"):
        await docket.add("gate", key="k")("old")
        await gate.has_begun()
        await docket.replace("gate", None, "k")("new")
        assert (await reasons(docket, "k"))[0] == (
            "an earlier run of this key has not ended yet, on worker anna: it begins after that"
        )
        gate.open.set()
        await until(lambda: len(gate.log) == 4)


async def test_it_waits_for_a_concurrency_limit(docket: Docket):
    gate = Gate()

    async def hold(customer: int, limit: ConcurrencyLimit = ConcurrencyLimit("customer", 2)) -> None:
        await gate()

    docket.register(hold)
    async with running(docket):
        for key in "abcde":
            await docket.add(hold, key=key)(7)
        await until(lambda: gate.inside == 2)
        first = await until_it_says(docket, "c", "waiting for")
        assert first == [
            "it is waiting for the concurrency limit customer:7, as the first in line",
            "its 2 permits are held by a, b",
        ]
        assert (await reasons(docket, "d"))[0].endswith("customer:7, behind 1 other")
        assert (await reasons(docket, "e"))[0].endswith("customer:7, behind 2 others")
        assert (await docket.why("e")).state == "queued"
        gate.open.set()
        await until(lambda: len(gate.log) == 10)


async def test_it_waits_for_the_one_permit_there_is(docket: Docket):
    gate = Gate()

    async def hold(limit: ConcurrencyLimit = ConcurrencyLimit()) -> None:
        await gate()

    docket.register(hold)
    async with running(docket):
        await docket.add(hold, key="a")()
        await gate.has_begun()
        await docket.add(hold, key="b")()
        assert "its permit is held by a" in await until_it_says(docket, "b", "waiting for")
        gate.open.set()
        await until(lambda: len(gate.log) == 4)


async def test_its_limit_is_paused(docket: Docket):
    async def hold(limit: ConcurrencyLimit = ConcurrencyLimit()) -> None: ...

    await docket.set_limit("hold", 0)
    await docket.add(hold, key="k")()
    found = await until_it_says(docket, "k", "waiting for")
    assert found[1].startswith("none of its permits is held: it was paused with `docket limits set`")
    await docket.clear()


async def test_it_waits_for_a_rate_limit(docket: Docket):
    async def call_api(rate: RateLimit = RateLimit(1, per=HOUR)) -> None: ...

    docket.register(call_api)
    async with running(docket):
        await (await docket.add(call_api)()).get_result(timeout=HOUR)
        for key in "ab":
            await docket.add(call_api, key=key)()
        (first,) = await until_it_says(docket, "a", "waiting for")
        (second,) = await until_it_says(docket, "b", "waiting for")
    said = "it is waiting for the rate limit call_api (1 in 1h), "
    assert first.startswith(f"{said}as the first in line; the next may begin at {(now() + HOUR).date()}")
    assert second.startswith(f"{said}behind 1 other; the next may begin at ")
    await docket.clear()


async def test_its_task_is_struck(docket: Docket):
    await docket.add("trace", when=soon(hours=1), key="k")("x")
    await docket.strike("trace")
    assert "its task is struck, so it will be skipped when its turn comes (struck: trace)" in await reasons(
        docket, "k"
    )
    await docket.restore("trace")
    await docket.strike("trace", "message", "==", "x")
    assert (
        "there are strikes on arguments of its task, which may concern it (`docket strikes`)"
        in await reasons(docket, "k")
    )
    await docket.restore("trace", "message", "==", "x")
    assert not any("str" in reason for reason in await reasons(docket, "k"))


@pytest.mark.parametrize(
    ("arguments", "what"),
    [(("trace",), "trace"), (("trace", "message", "==", "x"), "trace by its argument 'message'")],
)
async def test_it_is_held_by_a_strike(docket: Docket, arguments: tuple[Any, ...], what: str):
    await docket.strike(*arguments, hold=True)
    await docket.add("trace", key="k")("x")
    async with running(docket):
        found = await until_it_says(docket, "k", "held by a strike on")
    assert found[0] == f"it is held by a strike on {what}, until `docket restore`"
    await docket.restore(*arguments)


async def test_it_is_suspected(docket: Docket):
    """Running when its worker died: run alone."""
    gate = Gate()
    docket.register(gate, names=["gate"])
    keys = docket.keys
    async with running(docket, surroundings=Surroundings(board=Watched(), suspects=False)) as worker:
        await docket.add("gate", key="k")()
        await gate.has_begun()
        async with docket.redis() as redis:
            entry: Any = await redis.hget(keys.runs("k"), "entry")
        await docket.store.ask(
            scripts.hand_over(keys, worker.worker_id, "killed", max_crashes=3, begun=[entry.decode()])
        )
        assert (await reasons(docket, "k"))[0] == (
            "it was running when its worker died, so it is going to be run alone, as the first"
        )
        await docket.clear()
        gate.open.set()


async def test_its_place_in_line_is_gone(docket: Docket):
    """Somebody has trimmed the stream."""
    await docket.add("trace", key="k")("x")
    async with docket.redis() as redis:
        await redis.delete(docket.keys.stream)
    found = await reasons(docket, "k")
    assert found[0] == "it is queued, and somebody has removed its place in line: add or cancel its key"
    await docket.cancel("k")


def test_without_await(docket_name: str, redis_url: str):
    with BlockingDocket(docket_name, redis_url) as docket:
        docket.add("trace", key="k")("x")
        assert str(docket.why("k")) == "it is in line, as the first; no worker is alive"
        docket.cancel("k")


async def test_a_key_of_any_text(docket: Docket):
    key = "a:{b}\nc\x00 Ü"
    await docket.add("trace", when=soon(hours=1), key=key)("x")
    assert (await docket.why(key)).state == "scheduled"
    async with running(docket):
        assert len(await reasons(docket, key)) == 1
    await docket.cancel(key)


async def test_its_worker_is_still_deciding(docket: Docket):
    """A strategy that takes its time, for one."""
    asked, answer = asyncio.Event(), asyncio.Event()

    class Slow(ConcurrencyStrategy):
        async def get_key(self, execution: Execution) -> str:  # type: ignore[override]
            asked.set()
            await answer.wait()
            return "slow"

    async def hold(limit: ConcurrencyLimit = ConcurrencyLimit(Slow())) -> None: ...

    docket.register(hold)
    async with running(docket, name="anna"):
        execution = await docket.add(hold, key="k")()
        await asyncio.wait_for(asked.wait(), 5)
        assert await reasons(docket, "k") == ["it has been given to worker anna, which is about to begin it"]
        answer.set()
        await execution.get_result(timeout=HOUR)
