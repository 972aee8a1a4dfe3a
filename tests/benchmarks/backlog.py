"""What docket costs beside a backlog of one size: each figure is taken while that much waits."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.bench import Bench
from tests.benchmarks.contestants import OURS, Contestant, Player
from tests.benchmarks.results import percentile
from tests.benchmarks.server import Server
from tests.benchmarks.service import Service

BESIDE = Contestant("ours", OURS.python, program="backlog.py")
CONCURRENCY = 100
PATIENCE = 1800.0


@dataclass(frozen=True)
class Load:
    """How much of everything is done beside the backlog."""

    bulk: int = 20_000
    single: int = 2_000
    verbs: int = 500
    due: int = 500
    idle_seconds: float = 10.0


QUICK = Load(bulk=3_000, single=300, verbs=100, due=200, idle_seconds=3.0)


@dataclass
class Held:
    """For how long one command kept Redis from others, at the most, by what was being done."""

    worst: dict[str, int] = field(default_factory=dict[str, int])

    def note(self, step: str, microseconds: int) -> None:
        self.worst[step] = max(self.worst.get(step, 0), microseconds)


class Beside:
    """Everything at one size of the backlog; `figures` is what it comes to."""

    def __init__(self, bench: Bench, size: int, load: Load) -> None:
        self._bench, self._server = bench, bench.server
        self.size, self._load = size, load
        self.held = Held()
        self.figures: dict[str, float] = {}

    def measure(self) -> dict[str, float]:
        for parked in (False, True):
            with self._bench.clean() as self._marks:
                self._fill(parked)
                self._add(parked)
                self._verbs(parked)
                if parked:
                    self._due()
                    self._idle()
                else:
                    self._drain()
                    self._snapshot()
                self._clear(parked)
        longest = {f"longest command of Redis, {step}, ms": us / 1e3 for step, us in self.held.worst.items()}
        return self.figures | longest

    def _ask(self, role: str, **config: Any) -> dict[str, Any]:
        with (
            watched(self._server, self.held, role),
            Player(BESIDE, self._server.url, self._marks, role, **config) as player,
        ):
            return player.answer(PATIENCE)

    def _fill(self, parked: bool) -> None:
        before = self._server.memory()
        self._ask("fill", first=0, count=self.size, parked=parked)
        name = "bytes per parked execution" if parked else "bytes per queued execution"
        self.figures[name] = (self._server.memory() - before) / self.size

    def _add(self, parked: bool) -> None:
        """On top of the backlog, which is so much larger afterwards until `_drain` has taken it away again."""
        what = "parked" if parked else "queued"
        for role, count, first in (
            ("fill", self._load.bulk, self.size),
            ("add_singly", self._load.single, self.size + self._load.bulk),
        ):
            before = self._server.usage()
            told = self._ask(role, first=first, count=count, parked=parked)
            used = self._server.usage().since(before)
            how = "in bulk" if role == "fill" else "one at a time"
            self.figures[f"add, {what}, {how}, /s"] = count / told["seconds"]
            self.figures[f"add, {what}, {how}: CPU of Redis, µs"] = used.cpu / count * 1e6

    def _verbs(self, parked: bool) -> None:
        what = "parked" if parked else "queued"
        told = self._ask("verbs", count=self._load.verbs, backlog=self.size, parked=parked)
        self.figures |= {f"{verb}, {what}, /s": rate for verb, rate in told.items()}

    def _drain(self) -> None:
        count = self._load.bulk
        before = self._server.usage()
        told = self._ask("drain", count=count, concurrency=CONCURRENCY)
        used = self._server.usage().since(before)
        self.figures |= {
            "drained, /s": count / told["seconds"],
            "drained: CPU of the worker per task, µs": told["cpu"] / told["ran"] * 1e6,
            "drained: CPU of Redis per task, µs": used.cpu / told["ran"] * 1e6,
            "a worker comes: until its first task, ms": told["until_first"] * 1e3,
            "a worker leaves, ms": told["leaving"] * 1e3,
        }

    def _snapshot(self) -> None:
        """The whole, and the first thousand; the command line likewise."""
        told = self._ask("snapshot", options={})
        self.figures |= {"snapshot(), s": told["seconds"], "snapshot(), MiB": told["mib"]}
        told = self._ask("snapshot", options={"limit": 1000})
        self.figures |= {"snapshot(limit=1000), ms": told["seconds"] * 1e3}
        self.figures["docket snapshot, s"] = self._command_line("snapshot")
        self.figures["docket snapshot --stats, s"] = self._command_line("snapshot", "--stats")

    def _command_line(self, *words: str) -> float:
        where = ["--docket", "bench", "--url", self._server.url]
        with watched(self._server, self.held, f"docket {' '.join(words)}"):
            began = time.monotonic()
            subprocess.run(
                [sys.executable, "-m", "docket", *words, *where],
                stdout=subprocess.DEVNULL,
                check=True,
                timeout=PATIENCE,
            )
            return time.monotonic() - began

    def _due(self) -> None:
        lags = self._ask("due", count=self._load.due, concurrency=CONCURRENCY)["lags"]
        self.figures["due at one moment: lag p50, ms"] = percentile(lags, 0.5)
        self.figures["due at one moment: lag p99, ms"] = percentile(lags, 0.99)

    def _idle(self) -> None:
        """A service of two processes with nothing to do, whatever is parked."""
        with (
            watched(self._server, self.held, "an idle service"),
            Service(OURS, self._server, self._marks, 2) as service,
        ):
            time.sleep(1.0)
            before, cpu = self._server.usage(), service.cpu()
            time.sleep(self._load.idle_seconds)
            used = self._server.usage().since(before)
            self.figures["idle service: CPU per 10 s, s"] = (service.cpu() - cpu) / used.at * 10
            self.figures["idle service: CPU of Redis per 10 s, s"] = used.cpu / used.at * 10
            self.figures["idle service: Redis commands, /s"] = used.commands / used.at

    def _clear(self, parked: bool) -> None:
        told = self._ask("clear")
        self.figures[f"clear, {'parked' if parked else 'queued'}, /s"] = told["cleared"] / told["seconds"]


@contextmanager
def watched(server: Server, held: Held, step: str) -> Iterator[None]:
    """Whatever Redis does meanwhile in one go, and how long the longest took."""
    client = server.client
    client.config_set("slowlog-max-len", 1000)
    client.config_set("slowlog-log-slower-than", 1000)
    client.slowlog_reset()
    try:
        yield
    finally:
        slow: Any = client.slowlog_get(1000)
        # The first scripts of a process are compiled when they are first used, and SCRIPT LOAD is no transition.
        durations = [each["duration"] for each in slow if not each["command"].startswith(b"SCRIPT")]
        held.note(step, max(durations, default=0))
