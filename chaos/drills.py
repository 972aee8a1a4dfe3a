"""The drills by name: what is done in each of them, how often, and what the service is told to put up with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from chaos.deeds import to_processes, to_redis, to_work
from chaos.fleets import RedisCluster, Watched
from chaos.patience import DRAIN, HANG_TIMEOUT, LEASE, PLACES
from chaos.skew import VARIABLE
from chaos.stage import Stage

Deed = Callable[[Stage], None]

SKEW = 20.0
"""Seconds."""

MAX_MEMORY = "120M"


@dataclass(frozen=True)
class Drill:
    """`deeds`: with their weights. Every one of them comes once before any comes again."""

    name: str
    summary: str
    deeds: Mapping[Deed, float]
    pause: tuple[float, float] = (0.5, 3.0)
    """Seconds between two deeds, at least and at most."""
    seconds: float = 20.0
    max_crashes: int = 1000
    """How often what is killed may have been to blame; where nothing is, nobody is to become a dead letter."""
    options: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    fleet: Callable[[Path], RedisCluster | Watched] | None = None
    """Several redis-servers that belong together, made in a folder."""
    own_server: bool = False
    """It needs a Redis that it may end; with a Redis of the operator's own these deeds are left out or the drill is."""
    proxied: bool = False
    measured: bool = False
    """How soon all goes on after a kill is part of the verdict."""

    def service_options(self, processes: int) -> tuple[str, ...]:
        """Patience that fits into a short drill; and no verdict on slots for what is done to them here."""
        return (
            # Not many fewer: a suspect is run alone, and there are as many processes for that as there are workers.
            *("--processes", str(processes), "--min-processes", str(max(1, processes - 1))),
            *("--max-processes", str(processes + 2), "--concurrency", str(PLACES)),
            *("--redelivery-timeout", f"{LEASE:g}s", "--drain-timeout", f"{DRAIN:g}s"),
            *("--max-crashes", str(self.max_crashes), "--max-restarts", "1000", "--log-level", "INFO"),
            *self.options,
        )


STORM: Mapping[Deed, float] = {
    to_processes.kill_worker: 20,
    to_processes.kill_quarantine: 1,
    to_processes.kill_steward: 1,
    to_processes.kill_template: 0.5,
    to_processes.kill_supervisor: 0.5,
    to_processes.freeze_worker: 2,
    to_processes.freeze_beyond_the_lease: 1,
    to_processes.terminate_worker: 2,
    to_processes.terminate_service: 0.5,
    to_processes.grow: 1,
    to_processes.shrink: 1,
    to_processes.quiet: 0.5,
    to_processes.roll: 0.7,
    to_redis.restart: 0.5,
    to_redis.kill: 0.5,
    to_redis.pause: 1,
    to_redis.fill: 1,
    to_redis.cut: 2,
    to_redis.lose_a_reply: 3,
    to_work.block: 1,
    to_work.poison: 1,
    to_work.exhaust: 0.5,
    to_work.leak: 0.5,
    to_work.litter: 1,
}

_ALL = (
    Drill(
        "kill-workers",
        "SIGKILL to worker and quarantine processes: what they were running runs again at once.",
        {to_processes.kill_worker: 4, to_processes.kill_quarantine: 1},
        measured=True,
    ),
    Drill(
        "kill-supervisor",
        "SIGKILL to the supervisor: its workers drain and leave, and another service takes over.",
        {to_processes.kill_supervisor: 1},
        pause=(4.0, 6.0),
    ),
    Drill(
        "kill-steward",
        "SIGKILL to the steward and the template: nothing runs twice.",
        {to_processes.kill_steward: 3, to_processes.kill_template: 1},
    ),
    Drill(
        "freeze",
        "A worker is stopped for longer than its lease and wakes up: it is fenced.",
        {to_processes.freeze_beyond_the_lease: 1, to_processes.freeze_worker: 0.5},
        pause=(2.0, 4.0),
    ),
    Drill(
        "block",
        "Tasks block their loop, some beyond the lease, which hurts nobody; others for ever, and become dead letters.",
        {to_work.block: 2, to_work.block_beyond_the_lease: 1, to_work.hang: 0.3},
        pause=(2.0, 4.0),
        max_crashes=2,
        options=("--hang-timeout", f"{HANG_TIMEOUT:g}s"),
    ),
    Drill(
        "terminate",
        "SIGTERM to workers and to the whole service under load: it drains, and another one goes on.",
        {to_processes.terminate_worker: 3, to_processes.terminate_service: 1},
        pause=(1.0, 4.0),
    ),
    Drill(
        "restart-redis",
        "Redis is ended or killed, and comes back with its append-only file: nothing runs twice.",
        {to_redis.restart: 1, to_redis.kill: 1},
        pause=(3.0, 5.0),
        own_server=True,
    ),
    Drill(
        "pause-redis",
        "Redis stands still, by CLIENT PAUSE or SIGSTOP, also for longer than a lease.",
        {to_redis.pause: 3, to_redis.pause_beyond_the_lease: 1},
        pause=(3.0, 5.0),
    ),
    Drill(
        "fail-over",
        "The master dies or stands still, and a Sentinel makes its replica the master.",
        {to_redis.fail_over: 1},
        pause=(5.0, 6.0),
        own_server=True,
        fleet=Watched,
    ),
    Drill(
        "lose-a-node",
        "The node of a cluster that the docket lives on dies or stands still, and its replica takes over.",
        {to_redis.fail_over: 1},
        pause=(5.0, 6.0),
        own_server=True,
        fleet=partial(RedisCluster, replicas=1),
    ),
    Drill(
        "cut",
        "The connections of a worker break, and replies to what Redis has done are lost: nothing runs twice.",
        {to_redis.cut: 2, to_redis.lose_a_reply: 2},
        pause=(0.2, 1.5),
        proxied=True,
    ),
    Drill(
        "memory",
        "Tasks take memory until their process is killed for it, or goes over its limit and is replaced.",
        {to_work.exhaust: 1, to_work.leak: 1},
        pause=(2.0, 4.0),
        options=("--max-memory", MAX_MEMORY),
    ),
    Drill(
        "fill-redis",
        "Redis is at its maxmemory and evicts nothing (noeviction): nothing is lost and nothing runs twice.",
        {to_redis.fill: 1},
        pause=(3.0, 5.0),
    ),
    Drill(
        "poison",
        "Tasks that kill whoever runs them are set aside after three tries, and nobody else with them.",
        {to_work.poison: 1},
        max_crashes=3,
    ),
    Drill(
        "garbage",
        "Nonsense in the stream and in records is set aside, and holds nobody up.",
        {to_work.litter: 1},
        pause=(0.2, 1.0),
    ),
    Drill(
        "wrong-types",
        "Something foreign lies at keys that everything needs, and is taken away: nothing is lost, nothing runs twice.",
        {to_redis.plant: 1},
        pause=(2.5, 4.0),
    ),
    Drill(
        "skew",
        f"The wall clocks of workers are off by up to {SKEW:g} s and keep being set, while workers are killed: nothing "
        "runs before it is due.",
        {to_processes.kill_worker: 1},
        variables={VARIABLE: f"{SKEW:g}"},
    ),
    Drill(
        "storm",
        "All of it at once, but for a Sentinel, a cluster, and loops that hang for ever (the frozen are to wake up).",
        STORM,
        pause=(0.2, 1.8),
        seconds=60.0,
        max_crashes=5,
        options=("--max-memory", MAX_MEMORY),
        proxied=True,
        measured=True,
    ),
)

DRILLS: Mapping[str, Drill] = {drill.name: drill for drill in _ALL}
