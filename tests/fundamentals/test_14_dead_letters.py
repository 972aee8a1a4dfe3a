"""What cannot be run is set aside with its cause: nothing is dropped in silence."""

from __future__ import annotations

import pytest

from docket import DeadLetter, Docket


async def test_a_task_that_no_worker_knows_is_set_aside_until_one_does(
    docket: Docket, docket_name: str, redis_url: str, work
):
    """A rolling deploy loses nothing: when a worker comes that knows the task, it runs."""

    async def brand_new(number: int) -> int:
        return 2 * number

    async with Docket(docket_name, redis_url) as new_version:
        execution = await new_version.add(brand_new)(21)

    await work()
    (dead,) = await docket.dead_letters()
    assert dead.key == execution.key
    assert "brand_new" in (dead.error or "")

    docket.register(brand_new)
    await work()
    assert await docket.dead_letters() == []
    found = await docket.get_execution(execution.key)
    assert found is not None and await found.get_result() == 42


async def test_waiting_for_a_dead_letter_says_why(docket: Docket, work):
    """At once."""
    execution = await docket.add("nobody_knows_this")()
    await work()
    with pytest.raises(DeadLetter, match="nobody_knows_this"):
        await execution.get_result()
    await docket.purge_dead()


async def test_dead_letters_can_be_tried_again_or_forgotten(docket: Docket, work):
    """One by one, or all."""
    for number in range(4):
        await docket.add("nobody_knows_this", key=f"k{number}")()
    await work()
    assert len(await docket.dead_letters()) == 4

    assert await docket.retry_dead("k0") is True
    assert await docket.retry_dead("there is no such key") is False
    assert [execution.key for execution in (await docket.snapshot()).future] == ["k0"]
    assert await docket.purge_dead(["k1", "there is no such key"]) == 1
    assert await docket.purge_dead() == 2
    assert await docket.dead_letters() == []
    await docket.clear()
