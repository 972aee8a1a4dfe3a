"""Nothing of a cancelled key runs, also if what was cancelled waited among the dead letters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from docket import Docket, Execution
from docket.errors import ExecutionCancelled
from tests.runtime.support import work_off
from tests.sdk.test_snapshot import Hands

LIMIT = timedelta(seconds=5)


async def set_aside(docket: Docket) -> Execution:
    """Its task is known to no worker yet."""
    execution = await docket.add("of tomorrow", key="k")(1)
    await work_off(docket)
    assert [each.key for each in await docket.dead_letters()] == ["k"]
    return execution


async def who_knows_it_comes(docket: Docket) -> list[int]:
    """What ran then."""
    ran: list[int] = []

    async def of_tomorrow(number: int) -> None:
        ran.append(number)

    docket.register(of_tomorrow, names=["of tomorrow"])
    await work_off(docket)
    return ran


async def test_what_waits_for_a_worker_that_knows_its_task_is_cancelled_like_all_that_waits(docket: Docket):
    execution = await set_aside(docket)
    async with docket.redis() as redis, redis.pubsub() as heard:
        await heard.subscribe(docket.keys.state_channel("k"))
        assert (await heard.get_message(timeout=5) or {})["type"] == "subscribe"
        await docket.cancel("k")
        told = (await heard.get_message(timeout=5) or {})["data"]
        assert b'"state":"cancelled"' in told and b'"worker":null' in told and b'"error":null' in told
        assert await redis.exists(docket.keys.dead, docket.keys.orphans("of tomorrow")) == 0
        assert await redis.pttl(docket.keys.runs("k")) > 0
    await execution.sync()
    assert (execution.state, execution.error, execution.worker) == ("cancelled", None, None)
    with pytest.raises(ExecutionCancelled, match="'k' was cancelled"):
        await execution.get_result(timeout=LIMIT)
    assert await docket.dead_letters() == [] and not await docket.retry_dead("k")
    assert await who_knows_it_comes(docket) == []
    await execution.sync()
    assert execution.state == "cancelled"


async def test_its_key_can_be_used_again_at_once(docket: Docket):
    await set_aside(docket)
    await docket.cancel("k")
    execution = await docket.add("of tomorrow", key="k")(2)
    assert execution.disposition == "scheduled"
    assert await who_knows_it_comes(docket) == [2]


async def test_without_a_time_to_live_nothing_remains(docket_name: str, redis_url: str):
    async with Docket(docket_name, redis_url, execution_ttl=timedelta(0)) as docket:
        await set_aside(docket)
        await docket.cancel("k")
        assert await docket.get_execution("k") is None
        assert await who_knows_it_comes(docket) == []


async def test_any_other_dead_letter_stays_one(docket: Docket):
    """It has ended, and nothing of it runs unless somebody says so."""
    hands = Hands(docket)
    await hands.enlist()
    await hands.dead()
    await docket.cancel("k")
    (dead,) = await docket.dead_letters()
    assert (dead.key, dead.state, dead.error) == ("k", "failed", "a cause")
    await hands.leave()
    await docket.purge_dead()


async def replaced(docket: Docket) -> None:
    await docket.replace("of tomorrow", None, "k")(2)


async def retried(docket: Docket) -> None:
    assert await docket.retry_dead("k")


async def purged(docket: Docket) -> None:
    assert await docket.purge_dead(["k"]) == 1


@pytest.mark.parametrize(("verb", "runs"), [(replaced, [2]), (retried, [1]), (purged, [])])
async def test_whatever_else_is_done_to_it_it_runs_once_at_most(
    docket: Docket, verb: Callable[[Docket], Awaitable[None]], runs: list[int]
):
    await set_aside(docket)
    await verb(docket)
    async with docket.redis() as redis:
        assert await redis.exists(docket.keys.dead, docket.keys.orphans("of tomorrow")) == 0
    assert await who_knows_it_comes(docket) == runs
    assert await docket.dead_letters() == []
