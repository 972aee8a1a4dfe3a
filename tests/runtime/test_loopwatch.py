"""What blocks the event loop is named, with the line at which it stands."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from docket import Docket
from docket_runtime.board import NullBoard
from docket_runtime.claims import Claims
from docket_runtime.loopwatch import LoopWatch, _Blocked
from docket_runtime.surroundings import Surroundings
from tests.runtime.support import running, until, work_off

ADVICE = "make it a plain def, which runs in a thread"


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "the loop" in record.getMessage()]


def seconds(line: str) -> float:
    return float(re.findall(r"for ([\d.]+) s", line)[0])


async def test_a_task_that_blocks_the_loop_is_named_with_file_and_line(
    docket: Docket, caplog: pytest.LogCaptureFixture
):
    async def sleeps() -> None:
        time.sleep(1.2)

    await docket.add(sleeps, key="blocker")()
    await work_off(docket)
    (line,) = told(caplog)
    at = f"{__file__}:{sleeps.__code__.co_firstlineno + 1}"
    assert re.fullmatch(
        rf"blocker \(sleeps\) blocked the loop for 1\.[2-4] s at {re.escape(at)}; {ADVICE}", line
    )


async def test_a_c_call_that_holds_the_interpreter_lock_is_named_too(
    docket: Docket, caplog: pytest.LogCaptureFixture
):
    async def matches() -> None:
        began = time.monotonic()
        length = 20
        while time.monotonic() - began < 0.9:
            re.match(r"(a+)+$", "a" * length + "b")
            length += 1

    for _ in range(3):  # one time in forty CPython lets the loop go on before anybody could look
        await docket.add(matches, key="regex")()
        await work_off(docket, 60.0)
        if told(caplog):
            break
    (line,) = told(caplog)
    assert line.startswith("regex (matches) blocked the loop for ")
    first = matches.__code__.co_firstlineno
    assert re.search(rf"{re.escape(__file__)}:({first + 4}|{first + 3}|{first + 5});", line)


@pytest.mark.measured
async def test_what_a_task_has_started_on_the_loop_is_part_of_it(
    docket: Docket, caplog: pytest.LogCaptureFixture
):
    async def inner() -> None:
        await asyncio.sleep(0.3)
        time.sleep(0.8)

    async def starts() -> None:
        await asyncio.gather(inner(), asyncio.sleep(0))

    await docket.add(starts, key="starter")()
    await work_off(docket)
    (line,) = told(caplog)
    assert line.startswith("starter (starts) blocked the loop for ") and 0.7 < seconds(line) < 1.2
    assert f"{__file__}:{inner.__code__.co_firstlineno + 2};" in line


async def test_of_two_executions_of_one_task_the_one_that_blocks_is_named(
    docket: Docket, caplog: pytest.LogCaptureFixture
):
    async def perhaps(blocks: bool) -> None:
        await asyncio.sleep(0.1)
        if blocks:
            time.sleep(0.8)
        await asyncio.sleep(0.1)

    for key in ("a", "b", "c"):
        await docket.add(perhaps, key=key)(key == "b")
    await work_off(docket)
    assert [line.partition(" ")[0] for line in told(caplog)] == ["b"]


async def test_the_line_is_the_applications_and_not_that_of_a_library(
    docket: Docket, caplog: pytest.LogCaptureFixture
):
    async def waits_for_a_program() -> None:
        subprocess.run([sys.executable, "-c", "import time; time.sleep(0.8)"], check=True)

    await docket.add(waits_for_a_program)()
    await work_off(docket)
    assert f"{__file__}:{waits_for_a_program.__code__.co_firstlineno + 1};" in told(caplog)[0]


async def test_nobody_is_blamed_for_what_we_do_with_the_standard_library(
    docket: Docket, caplog: pytest.LogCaptureFixture
):
    """Here: we say that it begins, and nobody reads for a while what we say."""

    async def works() -> None: ...

    caplog.set_level(logging.INFO, "docket.worker")
    read, write = os.pipe()
    os.set_blocking(write, False)
    with suppress(BlockingIOError):
        while os.write(write, bytes(65536)):
            pass
    os.set_blocking(write, True)
    with open(write, "w") as full, open(read, "rb") as reader:
        saying = logging.StreamHandler(full)
        saying.addFilter(lambda record: record.getMessage().startswith("↪"))
        logger = logging.getLogger("docket.worker")
        logger.addHandler(saying)
        threading.Timer(0.8, reader.read1, [1 << 20]).start()
        began = time.monotonic()
        try:
            await docket.add(works)()
            await work_off(docket)
        finally:
            logger.removeHandler(saying)
    assert time.monotonic() - began > 0.7, "it did not wait"
    assert told(caplog) == []


async def test_a_sync_task_and_a_short_pause_block_nothing(docket: Docket, caplog: pytest.LogCaptureFixture):
    def sleeps() -> None:
        time.sleep(0.8)

    async def pauses() -> None:
        time.sleep(0.15)

    await docket.add(sleeps)()
    await docket.add(pauses)()
    await work_off(docket)
    assert told(caplog) == []


class StoodDown(NullBoard):
    """A board that has its worker stand down when the test says so."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.down = False

    def phase(self, phase: str) -> None:
        self.phases.append(phase)

    @property
    def standing_down(self) -> bool:
        return self.down


async def test_a_worker_that_stands_down_claims_nothing_until_it_may_again(docket: Docket):
    ran: list[str] = []

    async def note(key: str) -> None:
        ran.append(key)

    board = StoodDown()
    async with running(docket, surroundings=Surroundings(board=board)):
        await docket.add(note)("before")
        await until(lambda: ran == ["before"])
        board.down = True
        await docket.add(note)("after")
        await asyncio.sleep(0.5)
        assert ran == ["before"]
        board.down = False
        await until(lambda: ran == ["before", "after"])


async def test_what_was_claimed_and_not_begun_when_it_stood_down_goes_back_unbegun(docket: Docket):
    board = StoodDown()
    ran: list[str] = []

    async def stands_down() -> None:
        board.down = True

    async def never_begun() -> None:
        ran.append("elsewhere" if board.down else "here")

    first = await docket.add(stands_down)()
    second = await docket.add(never_begun)()
    async with running(docket, surroundings=Surroundings(board=board)):
        await first.get_result()
        async with running(docket, name="another"):
            await second.get_result()
    await second.sync()
    assert ran == ["elsewhere"] and (second.attempt, second.crashes, second.redelivered) == (1, 0, False)


async def test_only_what_a_stuck_worker_has_not_begun_is_taken_from_it(docket: Docket):
    from docket.store.ledgers import open_ledger

    began = asyncio.Event()
    go = asyncio.Event()
    ran: list[str] = []

    async def begins() -> None:
        ran.append("begins")
        began.set()
        await go.wait()

    execution = await docket.add(begins)()
    # One slot: while that is taken, it cannot claim again what has been taken from it.
    async with running(docket, concurrency=1) as worker, open_ledger(docket.settings) as ledger:
        await began.wait()
        (held,) = worker.claims.entries
        assert await ledger.evacuate(worker.worker_id, [held]) == 0
        assert await ledger.evacuate(worker.worker_id, []) == 1
        assert await ledger.evacuate(worker.worker_id, []) == 0
        async with docket.redis() as redis:
            assert await redis.zscore(docket.keys.workers, worker.worker_id) is not None
        go.set()
        await execution.get_result()
    assert ran == ["begins", "begins"]


def compute(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


async def test_sync_tasks_that_compute_by_turns_are_a_crowd_and_none_of_them_is_blamed(
    docket: Docket, caplog: pytest.LogCaptureFixture
):
    """Fifty threads take half a second and more until it is the loop's turn again."""
    docket.register(compute)
    await docket.add_many([docket.call(compute)(0.02) for _ in range(120)])
    await work_off(docket, 60.0, concurrency=60)
    assert not [line for line in told(caplog) if ADVICE in line]


@pytest.mark.parametrize(
    ("in_threads", "spent", "crowd"),
    [(50, 0.6, 50), (50, 0.1, 0), (10, 0.6, 0), (0, 0.6, 0)],
    ids=["many that compute", "many that wait", "few", "none"],
)
async def test_a_crowd_is_many_that_compute(
    in_threads: int,
    spent: float,
    crowd: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    claims = Claims(60)
    monkeypatch.setattr(Claims, "in_threads", property(lambda claims: in_threads))
    watch = LoopWatch(claims, lambda: True)
    watch._turned_at = time.monotonic() - 0.6
    watch._spent -= spent
    assert watch._crowd(0.6) == crowd
    watch._check()
    watch.turned()
    crowds = [
        line
        for line in told(caplog)
        if line.startswith("a crowd of 50 sync tasks in threads blocked the loop for 0.")
    ]
    assert bool(crowds) == bool(crowd)


async def test_a_loop_that_computes_itself_is_not_kept_by_those_who_wait_in_threads(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(Claims, "in_threads", property(lambda claims: 50))
    watch = LoopWatch(Claims(60), lambda: True)
    compute(0.6)
    assert watch._crowd(0.6) == 0


async def test_a_loop_that_turns_again_while_somebody_looks_is_watched_on(monkeypatch: pytest.MonkeyPatch):
    long_ago = time.monotonic() - 60
    seen = [_Blocked(long_ago, long_ago, "somebody", None)]
    taken_away = property(lambda watch: seen.pop() if seen else None, lambda watch, blocked: None)
    monkeypatch.setattr(LoopWatch, "_blocked", taken_away, raising=False)
    watch = LoopWatch(Claims(1), lambda: True)
    watch._turned_at = long_ago
    watch._check()
    assert not seen
