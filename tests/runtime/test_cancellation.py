"""Cancelling what runs: the body is stopped, the key is free at once, and no two bodies of one key run together."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta

import pytest

from docket import ConcurrencyLimit, Disposition, Docket, ExecutionCancelled, Retry, TaskKey
from docket import sync as blocking
from docket.errors import TaskInterrupted
from docket.interruption import check_cancelled, shield
from tests.runtime.support import Gate, SyncGate, running, soon, until, work_off

LIMIT = timedelta(seconds=5)


@pytest.mark.measured
async def test_a_running_async_task_is_cancelled_within_a_tenth_of_a_second(docket: Docket):
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def endless() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            stopped.set()
            raise

    async with running(docket):
        execution = await docket.add(endless, key="k")()
        await begun.wait()
        asked = time.monotonic()
        await docket.cancel("k")
        await asyncio.wait_for(stopped.wait(), 2)
        assert time.monotonic() - asked < 0.1
        with pytest.raises(ExecutionCancelled):
            await execution.get_result(timeout=LIMIT)


async def test_a_body_that_swallows_its_cancellation_is_cancelled_all_the_same(docket: Docket):
    begun, ended = asyncio.Event(), asyncio.Event()

    async def stubborn() -> str:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
        ended.set()
        return "a result that does not count"

    async with running(docket):
        execution = await docket.add(stubborn, key="k")()
        await begun.wait()
        await docket.cancel("k")
        await asyncio.wait_for(ended.wait(), 2)
        with pytest.raises(ExecutionCancelled):
            await execution.get_result(timeout=LIMIT)
    await execution.sync()
    assert execution.state == "cancelled"


async def test_a_cancelled_body_is_not_tried_again(docket: Docket):
    begun = asyncio.Event()
    runs: list[int] = []

    async def retried(retry: Retry = Retry(attempts=5)) -> None:
        runs.append(retry.attempt)
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ValueError("the clean-up failed") from None

    async with running(docket) as worker:
        await docket.add(retried, key="k")()
        await begun.wait()
        await docket.cancel("k")
        await until(lambda: not worker.claims)
    await work_off(docket)
    assert runs == [1]


async def test_a_running_sync_task_is_stopped_by_an_exception_in_its_thread(docket: Docket):
    begun, ended = threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def endless() -> str:
        begun.set()
        try:
            give_up_at = time.monotonic() + 5
            while time.monotonic() < give_up_at:
                time.sleep(0.002)
        except BaseException as error:
            raised.append(error)
            raise
        finally:
            ended.set()
        return "a result that does not count"

    async with running(docket):
        execution = await docket.add(endless, key="k")()
        await asyncio.to_thread(begun.wait, 5)
        await docket.cancel("k")
        assert await asyncio.to_thread(ended.wait, 2)
        with pytest.raises(ExecutionCancelled):
            await execution.get_result(timeout=LIMIT)
    assert [type(error) for error in raised] == [TaskInterrupted]


async def test_a_shielded_sync_task_is_not_interrupted_but_can_ask(docket: Docket):
    begun = threading.Event()
    log: list[str] = []

    def transaction() -> None:
        with shield():
            begun.set()
            for _ in range(100):
                time.sleep(0.002)
            log.append("committed")
        check_cancelled()
        log.append("not reached")

    async with running(docket) as worker:
        execution = await docket.add(transaction, key="k")()
        await asyncio.to_thread(begun.wait, 5)
        await docket.cancel("k")
        with pytest.raises(ExecutionCancelled):
            await execution.get_result(timeout=LIMIT)
        await until(lambda: not worker.claims)
    assert log == ["committed"]


async def test_the_interruption_of_one_sync_task_never_hits_the_next_on_its_thread(docket: Docket):
    """The exception is raised asynchronously: it must not arrive after the body that it was meant for has ended."""
    ended: list[int] = []

    def brief(number: int) -> None:
        for _ in range(number % 7):
            time.sleep(0.0005)
        ended.append(number)

    async with running(docket, concurrency=1, threads=1):
        for number in range(60):
            execution = await docket.add(brief, key=f"victim-{number}")(number)
            await asyncio.sleep(0.0005 * (number % 5))
            await docket.cancel(f"victim-{number}")
            innocent = await docket.add(brief)(1000 + number)
            await innocent.get_result(timeout=LIMIT)
            await execution.sync()
            assert execution.state in ("cancelled", "completed")
    assert [number for number in ended if number >= 1000] == list(range(1000, 1060))


@pytest.mark.parametrize("verb", ["add", "replace"])
async def test_the_next_body_of_a_cancelled_sync_task_begins_when_the_old_one_has_ended(
    docket: Docket, verb: str
):
    gate = SyncGate()
    docket.register(gate, names=["gate"])
    async with running(docket) as worker:
        await docket.add("gate", key="k")("first")
        await gate.has_begun()
        await docket.cancel("k")
        second = await (docket.add("gate", key="k") if verb == "add" else docket.replace("gate", None, "k"))(
            "second"
        )
        assert second.disposition is Disposition.SCHEDULED
        third = await docket.add("gate", key="k")("third")
        assert third.disposition is Disposition.ALREADY_SCHEDULED
        await docket.add("trace", key="other")("an exchange in between")
        await until(lambda: len(worker.claims) == 1)
        assert gate.log == ["began first"]
        gate.open.set()
        assert await second.get_result(timeout=LIMIT) == "second"
    assert gate.log == ["began first", "ended first", "began second", "ended second"]
    assert gate.most_inside == 1


async def test_the_key_of_a_cancelled_async_task_may_be_added_at_once(docket: Docket):
    inside, most, log = 0, 0, list[str]()
    begun = asyncio.Event()

    async def unwinds_slowly(what: str) -> str:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        log.append(f"began {what}")
        begun.set()
        try:
            if what == "first":
                await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.1)
            inside -= 1
            log.append(f"ended {what}")
        return what

    async with running(docket), running(docket):
        await docket.add(unwinds_slowly, key="k")("first")
        await begun.wait()
        await docket.cancel("k")
        second = await docket.add(unwinds_slowly, key="k")("second")
        assert await second.get_result(timeout=LIMIT) == "second"
    assert log == ["began first", "ended first", "began second", "ended second"]
    assert most == 1


async def test_adding_and_cancelling_one_key_in_a_storm_never_runs_two_bodies_together(docket: Docket):
    inside, most, begun = 0, 0, 0

    async def body() -> None:
        nonlocal inside, most, begun
        begun += 1
        inside += 1
        most = max(most, inside)
        try:
            try:
                await asyncio.sleep(0.003)
            finally:
                await asyncio.sleep(0.001)
        finally:
            inside -= 1

    async with running(docket), running(docket):
        for turn in range(150):
            await docket.add(body, key="k")()
            if turn % 3 == 0:
                await docket.cancel("k")
            elif turn % 3 == 1:
                await docket.replace(body, None, "k")()
            if turn % 5 == 0:
                await asyncio.sleep(0.002)
        last = await docket.replace(body, None, "k")()
        await last.get_result(timeout=LIMIT)
        await until(lambda: not inside)
    assert most == 1
    assert begun > 10


async def test_a_cancelled_next_run_lets_the_old_body_end_and_does_not_run(docket: Docket):
    gate = SyncGate()
    docket.register(gate, names=["gate"])
    async with running(docket) as worker:
        await docket.add("gate", key="k")("first")
        await gate.has_begun()
        await docket.cancel("k")
        second = await docket.add("gate", key="k")("second")
        await docket.cancel("k")
        gate.open.set()
        with pytest.raises(ExecutionCancelled):
            await second.get_result(timeout=LIMIT)
        await until(lambda: not worker.claims)
    await work_off(docket)
    assert gate.log == ["began first", "ended first"]


async def test_a_future_run_added_after_a_cancellation_waits_for_the_old_body_even_when_it_is_due(
    docket: Docket,
):
    gate = SyncGate()
    docket.register(gate, names=["gate"])
    async with running(docket):
        await docket.add("gate", key="k")("first")
        await gate.has_begun()
        await docket.cancel("k")
        second = await docket.add("gate", key="k", when=soon(milliseconds=30))("second")
        while second.state != "queued":
            await second.sync()
        assert gate.log == ["began first"]
        assert [each.key for each in (await docket.snapshot()).future] == ["k"]
        gate.open.set()
        assert await second.get_result(timeout=LIMIT) == "second"
    assert gate.most_inside == 1


async def test_cancelling_after_a_replacement_stops_the_superseded_body_as_well(docket: Docket):
    """`cancel`: "Nothing of this key runs any more, or will." """
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def endless(what: str) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    async with running(docket):
        await docket.add(endless, key="k")("old")
        await begun.wait()
        await docket.replace(endless, None, "k")("new")
        await docket.cancel("k")
        await asyncio.wait_for(stopped.wait(), 2)


async def test_replacing_a_running_execution_lets_it_finish_and_runs_the_new_call_after_it(docket: Docket):
    gate = Gate()
    docket.register(gate, names=["gate"])
    async with running(docket), running(docket):
        old = await docket.add("gate", key="k")("old")
        await gate.has_begun()
        new = await docket.replace("gate", None, "k")("new")
        waiting = asyncio.gather(old.get_result(timeout=LIMIT), new.get_result(timeout=LIMIT))
        gate.open.set()
        assert await waiting == ["new", "new"]
    assert gate.log == ["began old", "ended old", "began new", "ended new"]
    assert gate.most_inside == 1


async def test_an_execution_that_adds_its_own_key_is_followed_by_its_successor(docket: Docket):
    inside, most, seen = 0, 0, list[int]()

    async def chain(number: int, key: str = TaskKey()) -> int:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        seen.append(number)
        if number < 20:
            execution = await docket.add(chain, key=key)(number + 1)
            assert execution.disposition is Disposition.SCHEDULED
            again = await docket.add(chain, key=key)(99)
            assert again.disposition is Disposition.ALREADY_SCHEDULED
        await asyncio.sleep(0.001)
        inside -= 1
        return number

    async with running(docket), running(docket):
        first = await docket.add(chain, key="chain")(1)
        assert await first.get_result(timeout=LIMIT) == 20
    assert seen == list(range(1, 21))
    assert most == 1


async def test_a_sync_execution_that_adds_its_own_key_is_followed_by_its_successor(docket: Docket):
    from docket import CurrentDocket

    seen: list[int] = []

    def chain(number: int, key: str = TaskKey(), client: blocking.Docket = CurrentDocket()) -> None:  # type: ignore[assignment]
        seen.append(number)
        if number < 5:
            client.add(chain, key=key)(number + 1)

    await docket.add(chain, key="chain")(1)
    await work_off(docket)
    assert seen == [1, 2, 3, 4, 5]


async def test_adding_a_running_key_from_elsewhere_changes_nothing(docket: Docket):
    gate = Gate()
    docket.register(gate, names=["gate"])
    async with running(docket) as worker:
        first = await docket.add("gate", key="k")("first")
        await gate.has_begun()
        second = await docket.add("gate", key="k")("second")
        assert second.disposition is Disposition.ALREADY_SCHEDULED
        gate.open.set()
        assert await first.get_result(timeout=LIMIT) == "first"
        await until(lambda: not worker.claims)
    assert gate.log == ["began first", "ended first"]


async def test_a_failing_body_that_scheduled_its_successor_is_not_retried_as_well(docket: Docket):
    seen: list[str] = []

    async def chain(what: str, key: str = TaskKey(), retry: Retry = Retry(attempts=3)) -> None:
        seen.append(what)
        if what == "first":
            await docket.add(chain, key=key)("second")
            raise ValueError("after the successor was scheduled")

    await docket.add(chain, key="k")("first")
    await work_off(docket)
    assert seen == ["first", "second"]


async def test_a_cancellation_before_the_worker_hears_signals_is_not_lost(docket: Docket):
    """The mark in the record is durable: a worker that could not listen finds it when it can."""
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def endless() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    async with running(docket):
        await docket.add(endless, key="k")()
        await begun.wait()
        async with docket.redis() as redis:
            while await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 0:
                await asyncio.sleep(0.001)
            await docket.cancel("k")
        await asyncio.wait_for(stopped.wait(), 3)
    await asyncio.sleep(0)


async def test_a_cancellation_that_overtakes_its_claim_is_not_lost(docket: Docket):
    """One script lets the first of a burst in and then has the next one replace it: the signal is there before the
    reply that brings the claim. To a worker that has just begun it is not even told, for it does not listen yet."""
    bodies: list[tuple[int, int]] = []

    async def latest(
        burst: int,
        number: int,
        limit: ConcurrencyLimit = ConcurrencyLimit(max_concurrent=1, on_conflict="replace"),
    ) -> None:
        await asyncio.sleep(0.6)
        bodies.append((burst, number))

    for start in range(4):
        async with running(docket):
            for burst in (2 * start, 2 * start + 1):
                calls = [docket.call(latest)(burst, number) for number in range(5)]
                executions = await docket.add_many(calls)
                began = time.monotonic()
                await executions[-1].get_result(timeout=LIMIT)
                assert time.monotonic() - began < 1.1, "it waited for a body that was to be stopped"
    assert bodies == [(burst, 4) for burst in range(8)]


async def test_what_was_cancelled_in_line_is_never_begun(docket: Docket):
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    for number in range(20):
        await docket.add(note, key=f"k{number}")(number)
    for number in range(0, 20, 2):
        await docket.cancel(f"k{number}")
    await work_off(docket)
    assert ran == list(range(1, 20, 2))
