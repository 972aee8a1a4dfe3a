"""What redis-server itself can do, by the program that comes with it: no consumer can be quicker than this."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.benchmarks.bench import Bench
from tests.benchmarks.contestants import Broken, Contestant
from tests.benchmarks.results import Row

BODY = "x" * 40
CASES = {
    "PING, one at a time": (1, 1, 20_000, ["PING"]),
    "XADD, one at a time": (1, 1, 20_000, ["XADD", "bench", "*", "body", BODY]),
    "XADD, 100 in a pipeline": (1, 100, 200_000, ["XADD", "bench", "*", "body", BODY]),
    "EVAL of a script that does nothing, 100 in a pipeline": (1, 100, 100_000, ["EVAL", "return 1", "0"]),
}
"""Clients, commands in a pipeline, commands, and which."""


def find_redis_benchmark(server: str) -> str | None:
    """Beside the redis-server that is used, or on the PATH."""
    beside = Path(server).with_name("redis-benchmark")
    return str(beside) if beside.exists() else shutil.which("redis-benchmark")


def server(bench: Bench) -> list[Row]:
    program = find_redis_benchmark(bench.server.program)
    if program is None:
        row = Row("redis-server itself", "/s", more_is_better=True, key="server")
        row.remark = (
            f"not measured: there is no redis-benchmark beside {bench.server.program} nor on the PATH"
        )
        return [row]
    return [_case(bench, program, name) for name in CASES]


def _case(bench: Bench, program: str, name: str) -> Row:
    row = Row(
        f"redis-benchmark: {name}", "/s", more_is_better=True, key=f"server.{name.split(',')[0].lower()}"
    )
    clients, pipeline, count, command = CASES[name]
    options = f"-s {bench.server.path} -c {clients} -P {pipeline} -n {count} --csv".split()

    def once(contestant: Contestant) -> None:
        with bench.clean():
            done = subprocess.run(
                [program, *options, *command], capture_output=True, text=True, timeout=60, check=False
            )
        row.add(contestant.name, _rate(done.stdout))

    bench.repeat([bench.floor], [row], once)
    row.faults = {name: why for name, why in row.faults.items() if name == bench.floor.name}
    return row


def _rate(csv: str) -> float:
    """Of the last line: name, requests per second, and from Redis 7 on latencies."""
    lines = csv.strip().splitlines()
    if not lines:
        raise Broken("redis-benchmark said nothing")
    return float(lines[-1].rsplit('","' if csv.count('","') else ",")[1].strip('"'))
