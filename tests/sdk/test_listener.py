"""One connection for all who wait for events: none is missed, and nobody who leaves takes it from the others."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import timedelta

import anyio
import pytest

from docket import Docket, Worker
from docket.store.asynchronous import AsyncStore
from docket.store.connect import resolve
from docket.store.requests import SUBSCRIBED
from tests.redis_server import RedisServer


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[AsyncStore]:
    store = AsyncStore(resolve(redis_url, "name"))
    yield store
    await store.close()


async def confirmed(store: AsyncStore, channel: str, within: float = 2.0) -> None:
    """A subscription to this channel is confirmed in time, hears what is published, and leaves."""
    async with asyncio.timeout(within):
        subscription = await store.listener.subscribe((channel,))
        assert await subscription.next(within) is SUBSCRIBED
        await store.client.execute_command("PUBLISH", channel, "hello")
        assert await subscription.next(within) == (channel, b"hello")
        await subscription.close()


async def test_whoever_leaves_while_it_connects_leaves_the_connection_to_the_next(store: AsyncStore):
    for step in range(40):
        subscription = await store.listener.subscribe((f"t:{step}",))
        for _ in range(step):
            await asyncio.sleep(0)
        await subscription.close()
        await confirmed(store, f"u:{step}")


async def test_whoever_comes_while_the_last_one_leaves_is_heard(store: AsyncStore):
    for step in range(40):
        first = await store.listener.subscribe((f"t:{step}",))
        assert await first.next(2) is SUBSCRIBED
        leaving = asyncio.create_task(first.close())
        for _ in range(step % 10):
            await asyncio.sleep(0)
        await confirmed(store, f"u:{step}")
        await leaving


async def test_coming_and_going_in_a_storm_leaves_everybody_served(store: AsyncStore):
    generator = random.Random(7)

    async def comes_and_goes(number: int) -> None:
        for turn in range(5):
            subscription = await store.listener.subscribe(
                (f"t:{generator.randrange(6)}", f"own:{number}:{turn}")
            )
            for _ in range(generator.randrange(12)):
                await asyncio.sleep(0)
            await subscription.close()

    async with asyncio.timeout(10):
        await asyncio.gather(*(comes_and_goes(number) for number in range(40)))
    await confirmed(store, "afterwards")


async def test_a_cancelled_waiter_does_not_disturb_the_others(docket: Docket):
    gate = asyncio.Event()

    async def waits() -> str:
        await gate.wait()
        return "done"

    executions = [await docket.add(waits)() for _ in range(20)]
    async with Worker(docket, concurrency=20) as worker:
        run = asyncio.create_task(worker.run_until_finished())
        patient = [asyncio.create_task(each.get_result(timeout=timedelta(seconds=5))) for each in executions]
        for step in range(60):
            hasty = asyncio.create_task(executions[step % 20].get_result())
            for _ in range(step % 23):
                await asyncio.sleep(0)
            hasty.cancel()
        gate.set()
        assert await asyncio.gather(*patient) == ["done"] * 20
        await run


async def test_everybody_is_told_to_look_again_after_a_reconnection(own_redis: RedisServer):
    store = AsyncStore(resolve(own_redis.url, "name"))
    subscription = await store.listener.subscribe(("a", "b"))
    assert await subscription.next(2) is SUBSCRIBED
    await asyncio.to_thread(own_redis.stop)
    await asyncio.to_thread(own_redis.start)
    assert await subscription.next(5) is SUBSCRIBED
    await store.client.execute_command("PUBLISH", "b", "x")
    assert await subscription.next(2) == ("b", b"x")
    await subscription.close()
    await store.close()


async def test_a_second_subscription_to_a_confirmed_channel_is_confirmed_at_once(store: AsyncStore):
    first = await store.listener.subscribe(("a",))
    assert await first.next(2) is SUBSCRIBED
    second = await store.listener.subscribe(("a",))
    assert await second.next(0.001) is SUBSCRIBED
    await first.close()
    await store.client.execute_command("PUBLISH", "a", "x")
    assert await second.next(2) == ("a", b"x")
    await second.close()


async def test_channels_of_one_subscription_are_confirmed_together(store: AsyncStore):
    first = await store.listener.subscribe(("a",))
    assert await first.next(2) is SUBSCRIBED
    both = await store.listener.subscribe(("a", "b"))
    assert await both.next(2) is SUBSCRIBED
    assert await both.next(0.05) is None
    await first.close()
    await both.close()


async def test_a_waiter_that_anyio_gave_up_on_leaves_the_connection_to_the_next(
    docket: Docket, store: AsyncStore
):
    """In a cancelled scope of anyio every further await is cancelled as well, those of the clean-up included."""
    execution = await docket.add("trace", key="k")("x")
    for seconds in (0.0, 0.001, 0.002, 0.005, 0.02):
        with anyio.move_on_after(seconds):
            await execution.get_result()
    later = await docket.add("trace", key="l")("x")
    async with Worker(docket) as worker:
        waiting = asyncio.create_task(later.get_result(timeout=timedelta(seconds=4)))
        await asyncio.wait_for(worker.run_until_finished(), 5)
        await asyncio.wait_for(waiting, 5)


@pytest.mark.parametrize("confirmed_before", [True, False])
async def test_leaving_in_a_cancelled_scope_leaves_the_connection_to_the_next(
    store: AsyncStore, confirmed_before: bool
):
    for number in range(5):
        with anyio.CancelScope() as scope:
            subscription = await store.listener.subscribe((f"t:{number}",))
            try:
                if confirmed_before:
                    assert await subscription.next(2) is SUBSCRIBED
                scope.cancel()
                await subscription.next(2)
            finally:
                await subscription.close()
        await confirmed(store, f"u:{number}")
