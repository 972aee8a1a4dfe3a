"""What a concurrency limit costs: those under it, and those beside whom others wait for it."""

from __future__ import annotations

from tests.benchmarks.bench import Bench
from tests.benchmarks.contestants import Contestant
from tests.benchmarks.results import Row
from tests.benchmarks.throughput import CONCURRENCY, drain

WAITING = 10_000


def limits(bench: Bench) -> list[Row]:
    return [*_under_a_limit(bench), _short_work(bench), _beside_a_line(bench)]


def _under_a_limit(bench: Bench) -> list[Row]:
    """Half of the slots may be used by the task."""
    row = Row(f"no-op async tasks under a limit of {CONCURRENCY // 2}, 1 process", "/s", more_is_better=True)
    row.key = "limits.nothing"
    of_redis = Row("   CPU of Redis per task", "µs", key="limits.redis")

    def once(contestant: Contestant) -> None:
        count = bench.count(contestant, bench.amounts.tasks // 10)
        with bench.clean() as folder:
            contestant.ask(
                bench.server.url, folder, "enqueue", task="limited_nothing", count=count, bulk=True
            )
            drained = drain(bench, contestant, folder, count, 1)
            row.add(contestant.name, drained.rate)
            of_redis.add(contestant.name, drained.usage.cpu / drained.observed * 1e6)

    bench.repeat(bench.relatives, [row, of_redis], once)
    return [row, of_redis]


def _short_work(bench: Bench) -> Row:
    """Ten at once at the most, a hundred of 5 ms: 50 ms at best."""
    row = Row("100 × 5 ms under a limit of 10 (ideal: 50)", "ms", key="limits.short")

    def once(contestant: Contestant) -> None:
        with bench.clean() as folder:
            contestant.ask(bench.server.url, folder, "enqueue", task="limited_work", count=100, bulk=True)
            row.add(contestant.name, (drain(bench, contestant, folder, 100, 1).seconds + 0.005) * 1e3)

    bench.repeat(bench.relatives, [row], once)
    return row


def _beside_a_line(bench: Bench) -> Row:
    """The same tasks, with nobody in line and with 10,000: how much slower the others become."""
    row = Row(f"no-op tasks beside {WAITING:,} that wait for a limit: rate ÷ rate without them", "")
    row.more_is_better, row.key = True, "limits.beside"
    count = bench.amounts.tasks

    def once(contestant: Contestant) -> None:
        rates: list[float] = []
        for waiting in (0, WAITING):
            with bench.clean() as folder:
                ask = {"task": "nothing", "count": count, "bulk": True}
                if waiting:
                    blocked = {**ask, "task": "held_up", "count": waiting}
                    contestant.ask(bench.server.url, folder, "enqueue", **blocked)
                contestant.ask(bench.server.url, folder, "enqueue", **ask)
                rates.append(drain(bench, contestant, folder, count, 1).rate)
        row.add(contestant.name, rates[1] / rates[0])

    # Each is the ratio of two runs of half a second: of three of them the median says little.
    bench.repeat([bench.ours], [row], once, repetitions=3 * bench.amounts.repetitions)
    return row
