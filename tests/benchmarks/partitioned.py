"""What it brings to split a docket over the three nodes of a cluster."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace

from chaos.fleets import RedisCluster, ask, running_cluster
from tests.benchmarks.bench import Bench
from tests.benchmarks.contestants import Broken, Contestant, Player
from tests.benchmarks.programs import marks
from tests.benchmarks.results import Row, Target
from tests.benchmarks.throughput import wait_for_all

CONCURRENCY = 100
PROCESSES = 2


@dataclass(frozen=True)
class Drained:
    """`nodes`: the seconds of CPU that each of them has used."""

    seconds: float
    added_in: float
    worker_cpu: float
    nodes: tuple[float, ...]


def _cpu(cluster: RedisCluster) -> tuple[float, ...]:
    found: list[float] = []
    for node in cluster.masters:
        lines = ask(node, "INFO", "cpu").decode().split()
        said = dict(line.split(":") for line in lines if ":" in line)
        found.append(float(said["used_cpu_user"]) + float(said["used_cpu_sys"]))
    return tuple(found)


def _drain(bench: Bench, cluster: RedisCluster, partitions: int, count: int) -> Drained:
    """All have run, each exactly once, or Broken."""
    ours = replace(bench.ours, program="split.py")
    about = {"docket": f"split-{partitions}-{time.monotonic_ns()}", "partitions": partitions, "count": count}
    with bench.clean() as folder, ExitStack() as stack:
        added = ours.ask(cluster.url, folder, "enqueue", **about)
        players = [
            stack.enter_context(Player(ours, cluster.url, folder, "work", concurrency=CONCURRENCY, **about))
            for _ in range(PROCESSES)
        ]
        for player in players:
            player.answer()
        before = _cpu(cluster)
        for player in players:
            player.tell()
        wait_for_all(folder, count, f"{partitions} partitions")
        time.sleep(0.05)  # the last settlements are on their way
        used = tuple(now - then for now, then in zip(_cpu(cluster), before, strict=True))
        for player in players:
            player.tell()
        cpu = sum(player.answer()["cpu"] for player in players)
        marked = marks.read(folder, count)
    if fault := marked.fault():
        raise Broken(f"{partitions} partitions: {fault}")
    return Drained(max(marked.starts) - min(marked.starts), added["seconds"], cpu, used)


def partitioned(bench: Bench) -> list[Row]:
    """No-op tasks of a docket that lies on one of three nodes, and of one that is split over them. All nodes and
    workers share this machine's cores: so beside what came of it stands when the busiest node would be full, which is
    what bounds a docket on a cluster of real machines."""
    count = bench.amounts.tasks
    rows = [row for partitions in (1, 3) for row in _rows(partitions)]
    gain = Row("   so many times what one partition can", "", more_is_better=True, key="partitions.gain")
    gain.target = Target("≥ 2", least=2.0)
    with ExitStack() as stack:
        started: list[RedisCluster] = []

        def once(_: Contestant) -> None:
            if not started:
                started.append(stack.enter_context(running_cluster()))
            full: list[float] = []
            for at, partitions in enumerate((1, 3)):
                drained = _drain(bench, started[0], partitions, count)
                full.append(count / max(drained.nodes))
                figures = (
                    count / drained.seconds,
                    count / drained.added_in,
                    drained.worker_cpu / count * 1e6,
                    sum(drained.nodes) / count * 1e6,
                    full[-1],
                )
                for row, value in zip(rows[5 * at : 5 * at + 5], figures, strict=True):
                    row.add("ours", value)
            gain.add("ours", full[1] / full[0])

        bench.repeat([bench.ours], [*rows, gain], once)
    return [*rows, gain]


def _rows(partitions: int) -> list[Row]:
    said = f"{partitions} partition{'s' * (partitions > 1)}, 3 nodes"
    return [
        Row(f"{said}: no-op tasks, {PROCESSES} processes", "/s", more_is_better=True),
        Row("   added in bulk", "/s", more_is_better=True),
        Row("   CPU of the workers per task", "µs"),
        Row("   CPU of all nodes per task", "µs"),
        Row("   the busiest node is full at", "/s", more_is_better=True),
    ]
