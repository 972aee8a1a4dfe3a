"""Deeds: Redis goes away, stands still, is full, or is not reached."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import cast

import psutil
import redis

from chaos.fleets import ask
from chaos.incidents import ALL
from chaos.patience import LEASE
from chaos.stage import Stage
from docket import clock
from docket.store import scripts

SHORTEST, LONGEST = 0.2, 2.5
"""Seconds without Redis that no lease runs out in: whoever lives through it must run nothing twice."""

RECONNECTED_BY = 1.1
"""Seconds until everybody has found out that Redis is back: a worker asks at least once a second."""


def _lasting(stage: Stage, what: str, seconds: float, note: str = "") -> None:
    until = clock.monotonic() + seconds + RECONNECTED_BY
    stage.incidents.happened(what, ALL, note or f"{seconds:.1f}s", until=until)


def _is_undisturbed(stage: Stage) -> bool:
    """One thing at a time: two outages in a row could last longer than a lease, and explain nothing."""
    return not any(each.over > clock.monotonic() and "Redis" in each.what for each in stage.incidents)


def restart(stage: Stage) -> None:
    _stop_for_a_while(stage, "restart of Redis", lambda: stage.server and stage.server.stop())


def kill(stage: Stage) -> None:
    _stop_for_a_while(stage, "kill of Redis", lambda: stage.server and stage.server.kill())


def _stop_for_a_while(stage: Stage, what: str, stop: Callable[[], object]) -> None:
    if stage.server is not None and _is_undisturbed(stage):
        seconds = stage.dice.uniform(0.0, LONGEST - 0.5)  # what it takes to start comes on top
        _lasting(stage, what, seconds)
        stop()
        stage.later(seconds, stage.server.start)


def pause(stage: Stage) -> None:
    _pause(stage, "pause of Redis", stage.dice.uniform(SHORTEST, LONGEST))


def pause_beyond_the_lease(stage: Stage) -> None:
    """Then nobody is vouched for any more, and whatever ran may be run again."""
    _pause(stage, "long pause of Redis", LEASE + stage.dice.uniform(1.0, 2.0))


def _pause(stage: Stage, what: str, seconds: float) -> None:
    """By a signal, if it is our own server, or by its own command."""
    if not _is_undisturbed(stage):
        return
    if stage.server is not None and stage.dice.random() < 0.5:
        _lasting(stage, what, seconds, f"SIGSTOP, {seconds:.1f}s")
        stage.server.pause()
        stage.later(seconds, stage.server.resume)
    else:
        _lasting(stage, what, seconds, f"CLIENT PAUSE, {seconds:.1f}s")
        _ask(stage, "CLIENT", "PAUSE", round(seconds * 1000))


def fill(stage: Stage) -> None:
    """It is at its maxmemory and evicts nothing: whoever wants to write is refused."""
    if not _is_undisturbed(stage):
        return
    before = {name: _setting(stage, name) for name in ("maxmemory", "maxmemory-policy")}
    seconds = stage.dice.uniform(SHORTEST, LONGEST)
    _lasting(stage, "Redis is full", seconds)

    def give_back() -> None:
        for name, value in before.items():
            _ask(stage, "CONFIG", "SET", name, value)

    stage.later(seconds, give_back)
    _ask(stage, "CONFIG", "SET", "maxmemory-policy", "noeviction")
    _ask(stage, "CONFIG", "SET", "maxmemory", 1)


def plant(stage: Stage) -> None:
    """A string lies at a key that everything needs; what was there is put back later, as by somebody who mends it."""
    if not _is_undisturbed(stage):
        return
    keys = stage.docket.keys
    needed = (
        *(keys.stream, keys.redelivered, keys.suspects, keys.queue, keys.dead, keys.workers, keys.deferred),
        *(keys.strikes, keys.limits, keys.limited, keys.maximums, keys.alarms),
    )
    name, seconds = stage.dice.choice(needed), stage.dice.uniform(SHORTEST, LONGEST)
    _lasting(stage, "Redis holds something foreign", seconds, f"{name}, {seconds:.1f}s")
    with stage.docket.redis() as client:
        # In one step each: whoever found nothing there would take itself for struck off, or write to it.
        client.eval(
            "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAME', KEYS[1], KEYS[2]) end "
            "redis.call('SET', KEYS[1], 'something foreign')",
            *(2, name, f"{name}:aside"),
        )

    def mend() -> None:
        with stage.docket.redis() as client:
            client.eval(
                "redis.call('DEL', KEYS[1]) "
                "if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[1]) end",
                *(2, name, f"{name}:aside"),
            )

    stage.later(seconds, mend)


FAILED_OVER_BY = 10.0
"""Seconds until a replica is the master and everybody has found it."""


def fail_over(stage: Stage) -> None:
    """The master dies or stands still, once, since there is one replica. What the load was promised is on the replica
    before; what workers settle meanwhile may not be."""
    fleet = stage.fleet
    if fleet is None or any(each.what == "failover of Redis" for each in stage.incidents):
        return
    master = fleet.first_master
    with stage.load.between_requests:
        ask(master, "WAIT", 1, 2000)
        how = stage.dice.choice(("kill", "pause"))
        until = clock.monotonic() + FAILED_OVER_BY
        stage.incidents.happened("failover of Redis", ALL, how, until=until)
        if how == "kill":
            master.kill()
        else:
            master.pause()
            stage.later(FAILED_OVER_BY, master.resume)  # it finds out that it is a replica now


def cut(stage: Stage) -> None:
    """All connections of one worker break; whatever was asked or answered just then is lost."""
    pids = stage.service.pids("worker")
    if stage.proxy is not None and pids:
        pid = stage.dice.choice(pids)
        stage.incidents.happened("cut", pid)
        stage.proxy.cut(_ports(pid))


def lose_a_reply(stage: Stage) -> None:
    """Redis does what the next one asks of it, and that one never hears of it."""
    if stage.proxy is not None:
        script = stage.dice.choice((scripts.EXCHANGE, scripts.EXCHANGE, scripts.RENEW, scripts.HAND_OVER))
        stage.incidents.happened("lost reply", ALL, script.name)
        stage.proxy.lose(script)


def _ports(pid: int) -> set[int]:
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return set()
    return {cast(tuple[str, int], each.laddr)[1] for each in connections if each.laddr}


def _ask(stage: Stage, *command: str | int) -> object:
    with ExitStack() as stack:
        client = stack.enter_context(stage.docket.redis())
        try:
            return client.execute_command(*command)
        except redis.ConnectionError:
            return client.execute_command(*command)


def _setting(stage: Stage, name: str) -> str:
    _, value = cast(list[bytes], _ask(stage, "CONFIG", "GET", name))
    return value.decode()
