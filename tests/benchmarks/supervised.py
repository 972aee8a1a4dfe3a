"""What several worker processes cost while they have nothing to do, and how soon a killed one's work runs again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from docket.sync import Docket
from tests.benchmarks.bench import Bench
from tests.benchmarks.contestants import Broken, Contestant
from tests.benchmarks.crew import WARM_UP as FIRST
from tests.benchmarks.crew import standing_by
from tests.benchmarks.programs import marks
from tests.benchmarks.results import Row, percentile
from tests.benchmarks.service import Service
from tests.benchmarks.throughput import wait_for_all

MANY, MORE = 8, 4
"""How many processes ours and pydocket are seen with, and how many a peer: the more take long to come up."""
WARM_UP = 200
"""Tasks that have been run before memory is looked at: fresh forks share more than they will keep sharing."""

T = TypeVar("T")


def _eventually(look: Callable[[], T], what: str, patience: float = 30.0) -> T:
    give_up_at = time.monotonic() + patience
    while not (found := look()):
        if time.monotonic() > give_up_at:
            raise Broken(f"{what}: not within {patience:.0f} s")
        time.sleep(0.002)
    return found


@dataclass(frozen=True)
class _Stood:
    """A service that had nothing to do."""

    pss: float
    commands: float
    cpu: float
    connections: float


def _stand(bench: Bench, contestant: Contestant, processes: int, seconds: float) -> _Stood:
    """`commands` are per second, CPU seconds per 10 seconds."""
    with (
        bench.clean() as folder,
        standing_by(bench, contestant, folder, processes, WARM_UP, "nothing") as service,
    ):
        _warm_up(bench, contestant, folder, processes)
        pss, before, cpu = service.pss(), bench.server.usage(), service.cpu()
        time.sleep(seconds)
        used, cpu = bench.server.usage().since(before), service.cpu() - cpu
        return _Stood(pss, used.commands / used.at, cpu / used.at * 10, bench.server.connections())


def _warm_up(bench: Bench, contestant: Contestant, folder: Path, processes: int) -> None:
    task, count = contestant.task("nothing"), WARM_UP + FIRST * processes
    contestant.ask(bench.server.url, folder, "enqueue", task=task, count=WARM_UP, bulk=True)
    _eventually(lambda: marks.ran(folder, count) == count, f"{contestant.name}: the warm-up", 60)
    time.sleep(1.0)


def idle(bench: Bench) -> list[Row]:
    """Two processes of everybody; more of them, to see what one more costs."""
    two = [
        Row("2 idle processes: Redis commands", "/s", key="idle.2.commands"),
        Row("2 idle processes: CPU per 10 s", "s", key="idle.2.cpu"),
        Row("2 idle processes: connections to Redis", "", key="idle.2.connections"),
    ]
    many = [
        Row(f"{MANY} idle processes: Redis commands", "/s", key=f"idle.{MANY}.commands"),
        Row(f"{MANY} idle processes: CPU per 10 s", "s", key=f"idle.{MANY}.cpu"),
        Row(f"{MANY} idle processes: connections to Redis", "", key=f"idle.{MANY}.connections"),
        Row(f"{MANY} idle processes: PSS of all of them", "MiB", key=f"idle.{MANY}.pss"),
    ]
    whole = Row("PSS of a service with 2 processes", "MiB", key="idle.2.pss")
    extra = Row("PSS per extra process", "MiB", key="memory.extra")

    def once(contestant: Contestant) -> None:
        related, amounts = contestant in bench.relatives, bench.amounts
        more = MANY if related else MORE
        small = _stand(
            bench, contestant, 2, amounts.idle_seconds if related else amounts.idle_seconds_of_peers
        )
        large = _stand(bench, contestant, more, amounts.idle_seconds if related else 0.0)
        for row, value in zip(two, (small.commands, small.cpu, small.connections), strict=True):
            row.add(contestant.name, value)
        whole.add(contestant.name, small.pss)
        extra.add(contestant.name, (large.pss - small.pss) / (more - 2))
        if related:
            figures = (large.commands, large.cpu, large.connections, large.pss)
            for row, value in zip(many, figures, strict=True):
                row.add(contestant.name, value)

    bench.repeat(bench.rivals, [extra, whole, *two, *many], once, repetitions=1)
    for row in many:
        row.faults = {name: why for name, why in row.faults.items() if name in ("ours", "pydocket")}
    return [extra, whole, *two, *many]


def _runs(folder: Path, number: int) -> list[tuple[int, float]]:
    try:
        lines = (folder / f"{number}.runs").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [(int(pid), float(at)) for pid, at in (line.split() for line in lines)]


def recovery(bench: Bench) -> list[Row]:
    p50 = Row("kill -9 → its task running again, p50", "ms", key="recovery.p50")
    most = Row("kill -9 → its task running again, p90", "ms", key="recovery.p90")
    p50.remark = "the others: after a timeout of theirs, of up to minutes, or never; not measured"

    def once(contestant: Contestant) -> None:
        recovered = _kill_each(bench)
        p50.values[contestant.name] = recovered
        most.add(contestant.name, percentile(recovered, 0.9))

    bench.repeat([bench.ours], [p50, most], once, repetitions=1)
    return [p50, most]


def _kill_each(bench: Bench) -> list[float]:
    """Milliseconds from each kill until its task runs again."""
    recovered: list[float] = []
    with (
        bench.clean() as folder,
        Service(bench.ours, bench.server, folder, 2) as service,
        Docket("bench", bench.server.url) as docket,
    ):
        for number in range(bench.amounts.kills):
            docket.add("hold")(number, str(folder))
            pid, _ = _eventually(lambda n=number: _runs(folder, n), "a task was not run")[0]
            if pid not in service.workers():
                raise Broken(f"{pid} says that it runs a task and is no worker of ours")
            killed_at = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            second = _eventually(lambda n=number: _runs(folder, n)[1:], "a killed task did not run again")[0]
            recovered.append((second[1] - killed_at) * 1000)
            (folder / f"{number}.go").touch()
            _eventually(lambda: len(service.workers()) == 2, "a killed worker was not replaced")
            time.sleep(0.3)
        again = [number for number in range(bench.amounts.kills) if len(_runs(folder, number)) != 2]
    if again:
        raise Broken(f"{len(again)} killed tasks ran more often than twice")
    return recovered


def drain_supervised(bench: Bench) -> list[Row]:
    """The same tasks as in `drain`, by what `docket-supervise --processes 2` starts: with the board and the steward."""
    row = Row("no-op async tasks, docket-supervise with 2 processes", "/s", more_is_better=True)
    row.key = "supervised"
    count = bench.amounts.tasks

    def once(contestant: Contestant) -> None:
        with bench.clean() as folder:
            contestant.ask(bench.server.url, folder, "enqueue", task="nothing", count=count, bulk=True)
            with Service(contestant, bench.server, folder, 2, count=count, concurrency=100):
                wait_for_all(folder, count, "supervised")
            marked = marks.read(folder, count)
        if fault := marked.fault():
            raise Broken(f"supervised: {fault}")
        row.add(contestant.name, marked.rate)

    bench.repeat([bench.ours], [row], once)
    return [row]
