"""What workers do for each other: the work of the dead and the lapsed is given to others."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import psutil
import pytest

from docket import Docket
from docket.store import scripts
from docket_runtime import housekeeping
from tests.runtime.support import SHORT, running, until, work_off

LIMIT = timedelta(seconds=5)


async def a_worker_that_died(docket: Docket, process: str, host: str, lease_ms: int = 600_000) -> str:
    """It is on the roll, has claimed everything there is, and is not heard of any more."""
    await enlisted(docket, process, host, lease_ms)
    await docket.store.ask(
        scripts.exchange(
            docket.keys,
            "dead/1",
            free=9,
            lanes="rd",
            promote_most=0,
            census=False,
            settlements=(),
            deliveries=(),
        )
    )
    return "dead/1"


async def enlisted(docket: Docket, process: str, host: str, lease_ms: int) -> None:
    await docket.store.ask(
        scripts.enlist(
            docket.keys,
            "dead/1",
            lease_ms=lease_ms,
            host=host,
            process=process,
            concurrency=9,
            tasks=("note",),
        )
    )


async def test_the_work_of_a_dead_neighbour_need_not_wait_for_its_lease(docket: Docket):
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = housekeeping.process(child.pid)
    for number in range(3):
        await docket.add(note)(number)
    await a_worker_that_died(docket, identity, housekeeping.host())
    child.communicate(b"\n", timeout=10)
    await work_off(docket, 8)
    assert sorted(ran) == [0, 1, 2]


async def test_a_process_that_lives_is_not_buried(docket: Docket):
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    await docket.add(note)(1)
    await a_worker_that_died(docket, housekeeping.process(), housekeeping.host())
    async with running(docket, redelivery_timeout=SHORT):
        await asyncio.sleep(0.5)
    assert ran == []
    await docket.store.ask(scripts.hand_over(docket.keys, "dead/1", "over", max_crashes=3, begun=()))
    await docket.clear()


def test_a_process_that_lives_unseen_has_not_ended(monkeypatch: pytest.MonkeyPatch):
    """Under hidepid=2 (systemd's ProtectProc=invisible) /proc has none of the processes of other users."""

    def unseen(pid: int) -> psutil.Process:
        raise psutil.NoSuchProcess(pid)

    def anothers(pid: int, number: int) -> None:
        raise PermissionError

    identity = housekeeping.process()
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    monkeypatch.setattr(psutil, "Process", unseen)
    assert not housekeeping._has_ended(identity)
    assert housekeeping._has_ended(f"{child.pid}@1"), "there is none: no signal finds it"
    monkeypatch.setattr(os, "kill", anothers)
    assert not housekeeping._has_ended(identity)


async def test_a_process_id_on_another_host_means_nothing(docket: Docket):
    async def note() -> None: ...

    await docket.add(note)()
    await a_worker_that_died(docket, "4194300@1.00", "another host")
    async with running(docket, redelivery_timeout=SHORT):
        await asyncio.sleep(0.5)
        assert len(await docket.workers()) == 2
    await docket.store.ask(scripts.hand_over(docket.keys, "dead/1", "over", max_crashes=3, begun=()))
    await docket.clear()


def test_the_identity_of_a_process_does_not_change_with_the_wall_clock(monkeypatch: pytest.MonkeyPatch):
    """psutil's create_time is reckoned from the boot time, which moves when the clock is set (NTP): two processes that
    asked before and after would disagree about a third that lives, and bury it."""
    before = housekeeping.process(os.getpid())
    for module in (psutil._pslinux, psutil) if psutil.LINUX else ():
        if hasattr(module, "BOOT_TIME"):
            monkeypatch.setattr(module, "BOOT_TIME", time.time() - 12345)
        if hasattr(module, "boot_time"):
            monkeypatch.setattr(module, "boot_time", lambda: time.time() - 12345)
    assert housekeeping.process(os.getpid()) == before


@pytest.mark.parametrize("identity", ["", "x", "@", "0@0", "-1@5", "99999999999@1.0", "1@", "\ud800"])
def test_an_identity_that_makes_no_sense_buries_nobody_and_raises_nothing(identity: str):
    assert housekeeping._has_ended(identity) in (True, False)


async def test_a_lapsed_worker_is_swept_and_its_work_runs(docket: Docket):
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    for number in range(5):
        await docket.add(note, key=f"k{number}")(number)
    await a_worker_that_died(docket, "1@1", "another host", lease_ms=1)
    async with running(docket, redelivery_timeout=SHORT):
        await until(lambda: len(ran) == 5)
    assert sorted(ran) == list(range(5))
    for number in range(5):
        execution = await docket.get_execution(f"k{number}")
        assert execution is not None and execution.crashes == 0, "an innocent ends with a clean record"


MANY = 10_001


@pytest.fixture
async def forgetful(docket_name: str, redis_url: str) -> AsyncIterator[Docket]:
    """Nothing remains of what has ended, however much that is."""
    async with Docket(docket_name, redis_url, execution_ttl=timedelta(0)) as docket:
        yield docket


async def a_worker_with_many_slots_that_died(docket: Docket, *, lease_ms: int = 600_000) -> list[str]:
    """Everything was delivered to it in one go; what."""

    async def note() -> None: ...

    await docket.add_many([docket.call(note)() for _ in range(MANY)])
    await enlisted(docket, "1@1", "another host", lease_ms)
    async with docket.redis() as redis:
        reply: Any = await redis.xreadgroup("docket-workers", "dead/1", {docket.keys.stream: ">"}, count=MANY)
    ((_, rows),) = reply
    return [f"d:{number.decode()}" for number, _ in rows]


@pytest.mark.parametrize("how", ["handed over", "swept"])
async def test_however_much_a_dead_worker_had_all_of_it_goes_back(forgetful: Docket, how: str):
    """With its consumer Redis forgets what is pending for it: what nobody has put back then is lost."""
    await a_worker_with_many_slots_that_died(forgetful, lease_ms=600_000 if how == "handed over" else -1000)
    if how == "handed over":
        row = await forgetful.store.ask(
            scripts.hand_over(forgetful.keys, "dead/1", "it died", max_crashes=3, begun=None)
        )
    else:
        (row,) = await forgetful.store.ask(scripts.sweep(forgetful.keys, 3))
    assert row == [b"dead/1", MANY, 0, []]
    async with forgetful.redis() as redis:
        lanes = [await redis.xlen(lane) for lane in (forgetful.keys.stream, forgetful.keys.redelivered)]
    assert lanes == [0, MANY]
    assert await forgetful.clear() == MANY


async def test_however_much_a_stuck_worker_has_begun_the_rest_goes_to_others(forgetful: Docket):
    entries = await a_worker_with_many_slots_that_died(forgetful)
    evacuate = scripts.evacuate(forgetful.keys, "dead/1", entries[:5000])
    assert await forgetful.store.ask(evacuate) == MANY - 5000
    assert await forgetful.store.ask(evacuate) == 0
    await forgetful.store.ask(scripts.hand_over(forgetful.keys, "dead/1", "over", max_crashes=3, begun=()))
    assert await forgetful.clear() == MANY


async def test_however_much_was_delivered_while_a_reply_was_lost_all_of_it_is_found(forgetful: Docket):
    entries = await a_worker_with_many_slots_that_died(forgetful)
    lapsed, rows = await forgetful.store.ask(scripts.recover(forgetful.keys, "dead/1", entries[:5000]))
    assert not lapsed and [row.decode() for row in rows[::8]] == entries[5000:]
    await forgetful.store.ask(scripts.hand_over(forgetful.keys, "dead/1", "over", max_crashes=3, begun=()))
    assert await forgetful.clear() == MANY


async def test_what_kills_its_workers_is_a_dead_letter_in_the_end(docket: Docket):
    async def note() -> None: ...

    await docket.add(note, key="k")()
    for crash in range(3):
        for lanes in ("d", "s"):
            await docket.store.ask(
                scripts.enlist(
                    docket.keys,
                    f"w/{crash}",
                    lease_ms=60_000,
                    host="h",
                    process="p",
                    concurrency=1,
                    tasks=("note",),
                )
            )
            await docket.store.ask(
                scripts.exchange(
                    docket.keys,
                    f"w/{crash}",
                    free=1,
                    lanes=lanes,
                    promote_most=0,
                    census=False,
                    settlements=(),
                    deliveries=(),
                )
            )
        await docket.store.ask(
            scripts.hand_over(docket.keys, f"w/{crash}", "killed by signal 9", max_crashes=3, begun=None)
        )
    (dead,) = await docket.dead_letters()
    assert dead.crashes == 3 and "3 times" in (dead.error or "") and "signal 9" in (dead.error or "")
    assert await docket.retry_dead("k")
    await work_off(docket)
    execution = await docket.get_execution("k")
    assert execution is not None and execution.state == "completed" and execution.crashes == 0
