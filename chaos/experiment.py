"""One drill from its beginning to its verdict."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from chaos.checker import Verdict, check, check_counters
from chaos.drills import Drill
from chaos.figures import Figures, measure
from chaos.fleets import RedisCluster
from chaos.incidents import Incident
from chaos.leftovers import leftovers
from chaos.load import Load
from chaos.mischief import Mischief
from chaos.patience import PLACES
from chaos.proxy import TCPProxy
from chaos.server import RedisServer
from chaos.stage import Stage
from chaos.witness import Run, seen
from chaos.workload import LIMITS
from docket import clock
from docket.errors import ConnectionFailed
from docket.sync import Docket

DOCKET = "chaos"
SETTLED_WITHIN = 90.0
"""Seconds after the last deed within which everything must have come to its end."""

TURN = 0.05

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Evidence:
    """What a drill has found."""

    drill: Drill
    seed: int
    seconds: float
    processes: int
    verdict: Verdict
    figures: Figures
    runs: list[Run]
    incidents: list[Incident]

    def as_json(self) -> dict[str, Any]:
        return {
            **{"drill": self.drill.name, "seed": self.seed, "duration_s": self.seconds},
            "processes": self.processes,
            **self.verdict.as_json(),
            "figures": self.figures.as_json(),
            "incidents": [vars(each) for each in self.incidents],
        }


def carry_out(
    drill: Drill,
    *,
    url: str | None,
    folder: Path,
    seed: int,
    seconds: float,
    processes: int,
    timed: bool,
    tell: Tell,
) -> Evidence:
    """`url`: a Redis of the operator's, whose docket `chaos` is cleared; None: one of our own. `timed`: figures that
    are not held are problems. Raises Broken if there can be no verdict."""
    with ExitStack() as stack:
        server = fleet = None
        name = DOCKET
        if drill.fleet is not None:
            fleet = drill.fleet(folder)
            stack.callback(fleet.stop)
            fleet.start()
            url = fleet.url
            if isinstance(fleet, RedisCluster):
                name = fleet.name_on(fleet.first_master, DOCKET)
        elif url is None:
            server = RedisServer(folder)
            stack.callback(server.stop)
            server.start()
        address = url or cast(RedisServer, server).url
        docket = stack.enter_context(Docket(name, address))
        docket.clear()
        docket.purge_dead()
        proxy = stack.enter_context(TCPProxy(address)) if drill.proxied else None
        stage = Stage(
            *(docket, proxy.url if proxy else address, folder, drill.service_options(processes)),
            *(dict(drill.variables), Load(docket, seed), seed),
            server=server,
            proxy=proxy,
            fleet=fleet,
        )
        stack.callback(stage.incidents.save, folder / "incidents")
        stack.callback(stage.close)
        load_ended_at = _break_things(stage, Mischief(stage, drill, seed), seconds, tell)
        tell("waiting until everything has come to its end")
        unfinished = _wait_for_the_end(stage)
        return _judge(drill, stage, unfinished, seed, seconds, processes, load_ended_at, timed)


def _break_things(stage: Stage, mischief: Mischief, seconds: float, tell: Tell) -> float:
    """Returns when the load ended."""
    stage.load.start()
    ends_at = clock.monotonic() + seconds
    while (now := clock.monotonic()) < ends_at:
        stage.turn()
        mischief.turn()
        tell(f"{ends_at - now:.0f}s to go, {len(stage.incidents)} incidents, {len(stage.load.asked)} calls")
        time.sleep(TURN)
    stage.undo()
    ended_at = clock.monotonic()
    stage.load.stop()
    return ended_at


def _wait_for_the_end(stage: Stage) -> list[tuple[str, str]]:
    give_up_at = clock.monotonic() + SETTLED_WITHIN
    while True:
        try:
            left = stage.load.unfinished()
        except ConnectionFailed:  # the last thing that was done was done to Redis
            left = [("Redis", "away")]
        if not left or clock.monotonic() > give_up_at:
            return left
        stage.turn()
        time.sleep(4 * TURN)


def _judge(
    drill: Drill,
    stage: Stage,
    unfinished: list[tuple[str, str]],
    seed: int,
    seconds: float,
    processes: int,
    load_ended_at: float,
    timed: bool,
) -> Evidence:
    dead = {letter.key: letter.error for letter in stage.docket.dead_letters()}
    counters = stage.service.counters()
    code = stage.service.stop()
    runs, incidents, asked = seen(stage.service.witness), list(stage.incidents), stage.load.asked
    verdict = check(asked, runs, incidents, limits=LIMITS, dead=dead, max_crashes=drill.max_crashes)
    ours = [run for run in runs if run.service == stage.service.number]
    by_work = [each for each in verdict.duplicates if each.cause in ("poison", "hang", "out of memory")]
    deaths = (
        stage.deaths
        + len({each.run.pid for each in by_work})
        + drill.max_crashes * len([each for each in asked if each.fatal])
    )
    verdict.miscounted = check_counters(counters, ours, deaths, PLACES)
    fatal = {each.key for each in asked if each.fatal}
    verdict.left_behind = [f"{key} is {state}" for key, state in unfinished]
    verdict.left_behind += [
        f"{key} is a dead letter: {cause}"
        for key, cause in dead.items()
        if key not in fatal and not key.startswith("garbage")
    ]
    if code != 0:
        verdict.left_behind.append(f"the service left with {code}")
    verdict.left_behind += stage.problems + stage.find_stragglers() + _left_in_redis(stage.docket)
    if not verdict.runs:
        verdict.left_behind.append("nothing has run at all: this is evidence of nothing")
    figures = measure(runs, incidents, load_ended_at)
    if drill.measured and timed:
        verdict.too_slow = figures.problems()
    return Evidence(drill, seed, seconds, processes, verdict, figures, runs, incidents)


def _left_in_redis(docket: Docket) -> list[str]:
    """Once the dead letters have been forgotten, nothing may be there without an expiry or somebody who removes it."""
    docket.purge_dead()
    with docket.redis() as client:
        keys = docket.keys
        found = [f"{line} is left in Redis" for line in leftovers(client, docket.name)]
        for stream in (keys.stream, keys.high, keys.low, keys.redelivered, keys.suspects):
            length = cast(int, client.execute_command("XLEN", stream))
            if length:
                found.append(f"{length} entries are left in {stream}")
        held = cast(list[bytes], client.execute_command("KEYS", f"{keys.prefix}:concurrency:*"))
        found += [f"permits are left in {key.decode()}" for key in held]
    return found


def can_be_had(drill: Drill, url: str) -> str | None:
    """Why this drill cannot take place on a Redis that is not ours; None if it can."""
    scheme = urlsplit(url).scheme
    if drill.own_server:
        return (
            f"{drill.name} ends and starts a redis-server: it does so with its own only, so leave --url out"
        )
    if drill.proxied and scheme not in ("redis", "unix"):
        return f"{drill.name} stands between the service and Redis: expected --url to be redis:// or unix://"
    return None
