"""The soak: a service under load whose processes get random signals for as long as one likes, with the ledger at last.

`python -m chaos.soak --duration 10m`; exit code 0 if nothing was lost and every duplicate is explained.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from chaos.checker import Verdict, check, check_counters
from chaos.incidents import Incidents
from chaos.mischief import Mischief
from chaos.service import Broken, Service
from chaos.witness import seen
from chaos.workload import tasks
from docket import clock
from docket.durations import describe, parse
from docket.message import STATES_ENDED
from docket.sync import Docket

DOCKET = "soak"
LEASE = 5.0
PLACES = 10
BATCH = 20
"""Executions that are added at once."""
PAUSE = 0.25
SETTLED_WITHIN = 90.0
"""Seconds after the last mischief within which everything must have come to its end."""


def main() -> int:
    options = _options()
    console = Console() if sys.stdout.isatty() else Console(width=120)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="docket-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    console.print(
        f"soak of {describe(options.duration)}, seed {options.seed}, evidence in {folder}", highlight=False
    )
    with ExitStack() as stack:
        url = options.url or f"embedded://{folder / 'redis'}"
        # Held from before the service to after it: an embedded server ends with whoever has it last.
        docket = stack.enter_context(Docket(DOCKET, url))
        docket.clear()
        try:
            verdict, incidents = _soak(console, docket, url, folder, options)
        except Broken as error:
            console.print(f"[red]broken:[/] {error}", highlight=False)
            return 1
        _report(console, verdict, incidents)
        (folder / "verdict.json").write_text(json.dumps(verdict.as_json(), indent=2))
    if verdict.clean and options.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if verdict.clean else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m chaos.soak", description=__doc__)
    parser.add_argument(
        "--duration", type=parse, default=parse("10m"), help="how long things are broken (10m)"
    )
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(10**6), help="what is broken when"
    )
    parser.add_argument("--processes", type=int, default=4, help="worker processes (4)")
    parser.add_argument(
        "--url", help="a Redis of your own; its docket `soak` is cleared (default: an embedded one)"
    )
    parser.add_argument(
        "--folder", type=Path, help="where the evidence is kept (default: only if something is wrong)"
    )
    return parser.parse_args()


def _soak(
    console: Console, docket: Docket, url: str, folder: Path, options: argparse.Namespace
) -> tuple[Verdict, Incidents]:
    service = Service(url, DOCKET, folder, *_settings(options.processes))
    incidents = Incidents()
    mischief = Mischief(service, incidents, options.seed, LEASE)
    load = Load(docket, options.seed)
    ends_at = clock.monotonic() + options.duration.total_seconds()
    try:
        with console.status("breaking things") as status:
            while (now := clock.monotonic()) < ends_at:
                if (code := service.process.poll()) is not None:
                    raise Broken(f"the service has ended with {code}; see {service.log}")
                mischief.turn()
                load.turn(now)
                status.update(
                    f"{ends_at - now:.0f}s to go, {len(incidents)} incidents, {len(load.keys)} scheduled"
                )
                time.sleep(0.05)
            mischief.end()
            status.update("waiting until everything has come to its end")
            left = load.unfinished(SETTLED_WITHIN)
        counters = service.counters()
        code = service.stop()
        runs = seen(service.witness)
        verdict = check(load.keys, runs, incidents)
        verdict.miscounted = check_counters(counters, runs, mischief.deaths, PLACES)
        verdict.left_behind = [f"{key} is {state}" for key, state in left]
        verdict.left_behind += [
            f"{letter.key} is a dead letter: {letter.error}" for letter in docket.dead_letters()
        ]
        if code != 0:
            verdict.left_behind.append(f"the service left with {code}")
        return verdict, incidents
    finally:
        incidents.save(folder / "incidents")
        service.close()


def _settings(processes: int) -> tuple[str, ...]:
    """Patience that fits into a short soak; and no verdict on executions or slots for what is done to them here."""
    return (
        # Not many fewer: a suspect is run alone, and there are as many processes for that as there are workers.
        *("--processes", str(processes), "--min-processes", str(max(1, processes - 1))),
        *("--max-processes", str(processes + 2), "--concurrency", str(PLACES)),
        *("--redelivery-timeout", f"{LEASE:g}s", "--drain-timeout", "5s"),
        *("--max-crashes", "1000", "--max-restarts", "1000", "--log-level", "INFO"),
    )


class Load:
    """More work again and again, of every kind; `keys` are those that Redis has acknowledged."""

    def __init__(self, docket: Docket, seed: int) -> None:
        self._docket = docket
        self._dice = random.Random(seed + 1)
        self._next_at = 0.0
        self.keys: list[str] = []
        for task in tasks:
            docket.register(task)

    def turn(self, now: float) -> None:
        if now >= self._next_at:
            self._next_at = now + PAUSE
            calls = [self._call(name, *arguments) for name, *arguments in self._mixture()]
            self.keys += [execution.key for execution in self._docket.add_many(calls)]

    def _call(self, name: str, *arguments: float):
        return self._docket.call(name, key=f"{name}-{len(self.keys)}-{self._dice.getrandbits(32):08x}")(
            *arguments
        )

    def _mixture(self) -> Iterator[tuple[str, *tuple[float, ...]]]:
        for _ in range(BATCH):
            match self._dice.random():
                case chance if chance < 0.5:
                    yield ("quick",)
                case chance if chance < 0.8:
                    yield ("quick_sync",)
                case chance if chance < 0.88:
                    yield ("slow", self._dice.uniform(0.05, 1.5))
                case chance if chance < 0.95:
                    yield ("slow_sync", self._dice.uniform(0.05, 1.0))
                case _:
                    yield ("shaky", self._dice.randint(0, 3))

    def unfinished(self, within: float) -> list[tuple[str, str]]:
        """What has not come to an end in that time, with the state it is in."""
        give_up_at = clock.monotonic() + within
        while True:
            snapshot = self._docket.snapshot()
            waiting = [
                each for each in (*snapshot.future, *snapshot.running) if each.state not in STATES_ENDED
            ]
            if not waiting or clock.monotonic() > give_up_at:
                return [(each.key, str(each.state)) for each in waiting]
            time.sleep(0.2)


def _report(console: Console, verdict: Verdict, incidents: Incidents) -> None:
    table = Table(show_header=False)
    table.add_row("incidents", str(len(incidents)))
    table.add_row("executions scheduled", str(verdict.scheduled))
    table.add_row("runs seen by witnesses", str(verdict.runs))
    table.add_row("lost", str(len(verdict.lost)))
    for cause, count in sorted(verdict.explained.items()):
        table.add_row(f"run again because of a {cause}", str(count))
    table.add_row("run again for no known cause", str(len(verdict.unexplained)))
    console.print(table)
    for title, problems in (
        ("lost", verdict.lost),
        ("unheard of", verdict.unheard_of),
        ("unexplained", [str(each.run) for each in verdict.unexplained]),
        ("miscounted", verdict.miscounted),
        ("left behind", verdict.left_behind),
    ):
        for problem in problems[:20]:
            console.print(f"[red]{title}:[/] {problem}", highlight=False)
    console.print("clean" if verdict.clean else "[red]not clean[/]")


if __name__ == "__main__":
    sys.exit(main())
