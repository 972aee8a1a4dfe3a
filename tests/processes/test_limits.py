"""A concurrency limit holds across processes, also while they are killed: decided by what the tasks wrote down."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterable
from itertools import pairwise

from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.fleet import Evidence, Supervisor, eventually

Supervise = Callable[..., Supervisor]
Line = dict[str, float]

WIDTH = 3
A_MOMENT = 0.25
"""Seconds, of which a settlement takes a few thousandths: more than it takes on a machine that is busy."""


def intervals(evidence: Evidence, killed: dict[int, float]) -> list[tuple[float, float]]:
    """When each run began and when it ended, or its process was killed."""
    open_runs: dict[tuple[str, int], float] = {}
    found: list[tuple[float, float]] = []
    for line in evidence.lines():
        run = (line["key"], line["pid"])
        if line["event"] == "began":
            open_runs[run] = line["at"]
        elif line["event"] == "ended":
            found.append((open_runs.pop(run), line["at"]))
    for (key, pid), began in open_runs.items():
        assert pid in killed, f"{key} began in {pid}, which nobody killed, and has not ended"
        found.append((began, killed[pid]))
    return found


def widths(runs: Iterable[tuple[float, float]]) -> list[tuple[float, int]]:
    """How many ran at once, from each moment on. What ends in the moment in which another begins was before it."""
    changes = sorted([(began, 1) for began, _ in runs] + [(ended, -1) for _, ended in runs])
    width, found = 0, []
    for at, change in changes:
        width += change
        found.append((at, width))
    return found


def had_a_moment(ended: Line, killed: dict[int, float]) -> bool:
    """To settle it: what ends at the moment in which its process is killed may have to run again."""
    return killed.get(int(ended["pid"]), math.inf) - ended["at"] > A_MOMENT


def test_a_limit_of_three_holds_while_a_worker_is_killed_every_second(
    docket: Docket,
    supervise: Supervise,
    evidence: Evidence,
    record_property: Callable[..., None],
) -> None:
    count, kills = 500, 20
    supervisor = supervise("--processes", "4", "--max-crashes", "100")
    docket.add_many(docket.call(does.three_at_once, key=f"task-{i}")(0.1) for i in range(count))
    eventually(lambda: evidence.lines("ended"), "the first one has run")
    killed: dict[int, float] = {}
    for _ in range(kills):
        running = evidence.lines("began")[-1]["pid"]
        victims = [pid for pid in supervisor.titled("worker") if pid == running] or supervisor.titled(
            "worker"
        )
        killed[victims[0]] = time.monotonic()
        os.kill(victims[0], signal.SIGKILL)
        time.sleep(1)
    eventually(lambda: len({line["key"] for line in evidence.lines("ended")}) == count, "all of them", 60)
    assert supervisor.stop() == 0

    runs = intervals(evidence, killed)
    at_once = widths(runs)
    assert max(width for _, width in at_once) == WIDTH
    last_begin = max(began for began, _ in runs)
    delays = [
        min(at for at, width in at_once if at > kill and width == WIDTH) - kill
        for kill in killed.values()
        if kill < last_begin - 1
    ]
    record_property("full width again after, s", sorted(round(delay, 3) for delay in delays))
    assert len(delays) >= kills / 2 and max(delays) < 1
    ended = [line["key"] for line in evidence.lines("ended") if had_a_moment(line, killed)]
    assert len(ended) == len(set(ended)), "what had ended ran again"
    with docket.redis() as redis:
        assert redis.exists(docket.keys.concurrency("three_at_once")) == 0
        assert redis.scard(docket.keys.limits) == 0


def test_a_line_that_waits_costs_nothing(docket: Docket, supervise: Supervise, evidence: Evidence) -> None:
    """Whoever waits for a limit holds no slot, and nobody asks for it."""
    supervise("--processes", "2", "--concurrency", "2")
    docket.add(does.one_at_once, key="long")(5)
    evidence.running_in("long")
    docket.add_many(docket.call(does.one_at_once, key=f"waits-{i}")(0) for i in range(50))
    others = docket.add_many(docket.call(does.note, key=f"other-{i}")() for i in range(50))
    for execution in others:
        execution.get_result()
    (limit,) = docket.limits()
    assert (limit.used, limit.waiting, limit.most) == (1, 50, 1)
    assert "behind 9 others" in str(docket.why("waits-9"))
    with docket.redis() as redis:

        def commands() -> int:
            return int(redis.info("commandstats")["cmdstat_evalsha"]["calls"])

        quiet = [commands()]
        for _ in range(5):
            time.sleep(0.2)
            quiet.append(commands())
    assert min(b - a for a, b in pairwise(quiet)) == 0
