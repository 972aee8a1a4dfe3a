"""What several worker processes cost while they have nothing to do, and how soon a killed one's work runs again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from docket.sync import Docket
from tests.benchmarks.bench import Bench
from tests.benchmarks.contestants import Broken, Contestant
from tests.benchmarks.programs import marks
from tests.benchmarks.results import Row, Target, percentile
from tests.benchmarks.service import Service

PROCESSES = 8
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


def _warm_up(bench: Bench, contestant: Contestant, folder: Path) -> None:
    contestant.ask(bench.server.url, folder, "enqueue", task="nothing", count=WARM_UP, bulk=True)
    _eventually(lambda: marks.read(folder, WARM_UP).ran == WARM_UP, f"{contestant.name}: the warm-up", 60)
    time.sleep(1.0)


def idle(bench: Bench) -> list[Row]:
    commands = Row(f"{PROCESSES} idle processes: Redis commands", "/s", target=Target("< 60", most=60))
    cpu = Row(
        f"{PROCESSES} idle processes: CPU per 10 s", "s", target=Target("< 0.2 (2 % of a core)", most=0.2)
    )
    memory = Row("PSS per extra process", "MiB", target=Target("< 20", most=20))
    whole = Row(f"PSS of a service with {PROCESSES} processes", "MiB")
    for contestant in bench.rivals:
        sizes: dict[int, float] = {}
        for processes in (1, PROCESSES):
            with (
                bench.clean() as folder,
                Service(contestant, bench.server, folder, processes, count=WARM_UP) as service,
            ):
                _warm_up(bench, contestant, folder)
                sizes[processes] = service.pss()
                if processes == PROCESSES:
                    before, cpu_before = bench.server.usage(), service.cpu()
                    time.sleep(bench.amounts.idle_seconds)
                    used, cpu_used = bench.server.usage().since(before), service.cpu() - cpu_before
                    commands.add(contestant.name, used.commands / used.at)
                    cpu.add(contestant.name, cpu_used / used.at * 10)
        memory.add(contestant.name, (sizes[PROCESSES] - sizes[1]) / (PROCESSES - 1))
        whole.add(contestant.name, sizes[PROCESSES])
    return [memory, whole, commands, cpu]


def _runs(folder: Path, number: int) -> list[tuple[int, float]]:
    try:
        lines = (folder / f"{number}.runs").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [(int(pid), float(at)) for pid, at in (line.split() for line in lines)]


def recovery(bench: Bench) -> list[Row]:
    p50 = Row("kill -9 → its task running again, p50", "ms", target=Target("< 250 ms", most=250))
    most = Row("kill -9 → its task running again, p90", "ms")
    p50.remark = "pydocket: after its redelivery timeout, 300 s by default; not measured"
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
    p50.values["ours"] = recovered
    most.add("ours", percentile(recovered, 0.9))
    return [p50, most]


def drain_supervised(bench: Bench) -> list[Row]:
    """The same tasks as in `drain`, by what `docket-supervise --processes 2` starts: with the board and the steward."""
    row = Row("no-op async tasks, docket-supervise with 2 processes", "/s", more_is_better=True)
    count = bench.amounts.tasks
    for contestant in bench.turns([bench.ours]):
        with bench.clean() as folder:
            contestant.ask(bench.server.url, folder, "enqueue", task="nothing", count=count, bulk=True)
            with Service(contestant, bench.server, folder, 2, count=count, concurrency=100):
                _eventually(lambda f=folder: marks.read(f, count).ran == count, "supervised drain", 60)
            marked = marks.read(folder, count)
        if fault := marked.fault():
            raise Broken(f"supervised: {fault}")
        row.add(contestant.name, count / (max(marked.starts) - min(marked.starts)))
    return [row]
