"""Thousands of tasks in two supervised processes, one of which is killed on the way. `make demo` runs it.

Needs no Redis: it starts a real one in a temporary folder. Exit code 0 only if every task ran, and every task that ran
twice had been interrupted by the kill.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

import demo_tasks
import psutil
from demo_story import Story
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from docket import Docket, DocketError, TaskCall

COUNTS = {"async": 4000, "sync": 2000, "CPU-bound": 1000, "future": 1000}
PROCESSES = 2
KILL_AFTER = 0.35
"""The part of all tasks that has run when a worker is killed."""

DEADLINE = 50.0
"""Seconds for everything. What the end of the supervisor may take is kept back from it."""
FOR_THE_END = 9.0
HERE = Path(__file__).resolve().parent


class Failed(Exception):
    """The demo cannot go on; the message says why."""


class Service:
    """`docket-supervise` in a process of its own."""

    def __init__(self, url: str, folder: Path) -> None:
        self.log = folder / "supervisor.log"
        options = (
            f"--processes {PROCESSES} --url {url} --docket demo --tasks demo_tasks:tasks --app-dir {HERE}"
        )
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DOCKET_")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "docket_supervisor", *options.split(), "--log-level", "WARNING"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**kept, demo_tasks.FOLDER: str(folder), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # ^C is ours to answer, not everybody's at once
            )

    def workers(self) -> list[int]:
        """The pids of its worker processes."""
        found: list[int] = []
        for child in psutil.Process(self.process.pid).children():
            try:
                if "docket: worker " in " ".join(child.cmdline()):
                    found.append(child.pid)
            except psutil.Error:
                continue
        return found

    def check(self) -> None:
        if (code := self.process.poll()) is not None:
            raise Failed(f"the supervisor has left, with exit code {code}")

    def terminate(self, patience: float) -> int | None:
        """SIGTERM and its exit code, or None if it does not end in time."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        """Nothing of it is left, however the demo ends."""
        if self.process.poll() is not None:
            return
        try:
            everybody = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.Error:
            everybody = []
        for _ in range(3):  # a drain, a short one, at once
            if self.process.poll() is None:
                self.terminate(0.7)
        for process in everybody:
            if process.is_running():
                process.kill()
        self.process.kill()
        self.process.wait(5)


class Display:
    """How far each kind is: bars on a terminal, else a line now and then."""

    def __init__(self, console: Console) -> None:
        columns = ("{task.description:>10}", BarColumn(40), MofNCompleteColumn(), "{task.fields[note]}")
        made = [TextColumn(column) if isinstance(column, str) else column for column in columns]
        self._console = console
        self._progress = Progress(*made, console=console, disable=not console.is_terminal)
        self._bars: dict[str, TaskID] = {}
        self._last_line = 0.0

    @contextmanager
    def shown(self) -> Iterator[None]:
        with self._progress:
            self._bars = {
                kind: self._progress.add_task(kind, total=most, note="") for kind, most in COUNTS.items()
            }
            yield

    def update(self, story: Story) -> None:
        added = Counter(story.kinds.values())
        for kind, bar in self._bars.items():
            note = "" if added[kind] == COUNTS[kind] else f"{added[kind]} added"
            self._progress.update(bar, completed=story.done[kind], note=note)
        if not self._console.is_terminal and time.monotonic() - self._last_line > 1.0:
            self._last_line = time.monotonic()
            self.say(", ".join(f"{kind} {story.done[kind]}/{most}" for kind, most in COUNTS.items()))

    def say(self, text: str) -> None:
        self._progress.console.print(text, highlight=False)


def _call(docket: Docket, story: Story, kind: str) -> TaskCall:
    if kind == "future":
        due = datetime.now(UTC) + timedelta(seconds=random.uniform(0.5, 3.0))
        call = docket.call(demo_tasks.remind, when=due)(due.timestamp())
        story.due[call.key] = due.timestamp()
    elif kind == "async":
        call = docket.call(demo_tasks.fetch)(random.uniform(0.005, 0.030))
    elif kind == "sync":
        call = docket.call(demo_tasks.store)(random.uniform(0.005, 0.020))
    else:
        call = docket.call(demo_tasks.crunch)(20_000)
    story.kinds[call.key] = kind
    return call


async def _add(docket: Docket, story: Story) -> None:
    """All kinds mixed, in batches, while the workers are at it already."""
    kinds = [kind for kind, most in COUNTS.items() for _ in range(most)]
    random.shuffle(kinds)
    for start in range(0, len(kinds), 250):
        await docket.add_many([_call(docket, story, kind) for kind in kinds[start : start + 250]])
        await asyncio.sleep(0.05)


def _kill_one(service: Service, story: Story) -> int:
    """A worker that has work in flight is killed. Returns how much, or 0 if none had any just now."""
    story.read()
    busy = {pid: len(story.in_flight(pid)) for pid in service.workers()}
    pid = max(busy, key=busy.__getitem__, default=0)
    if not busy.get(pid):
        return 0
    story.killed, story.killed_at = pid, time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return busy[pid]


async def _watch(service: Service, story: Story, display: Display) -> None:
    """Until every task has run; on the way one worker is killed."""
    while not story.finished:
        service.check()
        story.read()
        if story.killed is None and story.done.total() > KILL_AFTER * story.total:
            held = _kill_one(service, story)
            if held:
                display.say(f"SIGKILL to worker {story.killed}, which is running {held} tasks")
        display.update(story)
        await asyncio.sleep(0.05)


async def _work(docket: Docket, service: Service, story: Story, display: Display, deadline: float) -> None:
    with display.shown():
        adding = asyncio.create_task(_add(docket, story))
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await _watch(service, story, display)
                await adding
        except TimeoutError:
            raise Failed(f"not every task had run {DEADLINE - FOR_THE_END:.0f} s after the start") from None
        finally:
            adding.cancel()
            story.read()
            display.update(story)


def _table(story: Story) -> Table:
    table = Table("tasks", title="What the tasks wrote down")
    for title in ("added", "ran", "ran twice", "of these, interrupted by the kill"):
        table.add_column(title, justify="right")
    twice = Counter(story.kinds[key] for key in story.again())
    explained = Counter(story.kinds[key] for key in story.again() if story.explained(key))
    for kind, most in COUNTS.items():
        table.add_row(kind, f"{most}", f"{story.done[kind]}", f"{twice[kind]}", f"{explained[kind]}")
    table.add_section()
    totals = (story.total, story.done.total(), twice.total(), explained.total())
    table.add_row("all", *(str(total) for total in totals), style="bold")
    return table


def _report(console: Console, story: Story, code: int | None) -> None:
    console.print(_table(story))
    every = [run for runs in story.runs.values() for run in runs]
    if every:
        seconds = max(run.ended or run.started for run in every) - min(run.started for run in every)
        speed = story.done.total() / max(seconds, 0.001)
        console.print(
            f"throughput   {speed:,.0f} tasks/s: {seconds:.1f} s from the first start to the last end"
        )
    recovery = story.recovery()
    if recovery is not None:
        console.print(
            f"recovery     {recovery * 1000:.0f} ms from SIGKILL until an interrupted task was running again"
        )
    console.print(f"supervisor   exit code {code} after SIGTERM")


def _faults(story: Story, code: int | None) -> list[str]:
    """What is wrong, a sentence each."""
    missing = story.total - story.done.total()
    unexplained = [key for key in story.again() if not story.explained(key)]
    early = story.early()
    found = {
        f"{missing} tasks have not run": missing,
        f"{len(unexplained)} tasks ran more than once, and the kill is not the reason": unexplained,
        f"{len(early)} tasks began before they were due": early,
        "no task was interrupted by the kill": story.recovery() is None,
        f"the supervisor's exit code was {code}, expected 0": code != 0,
    }
    return [sentence for sentence, is_so in found.items() if is_so]


async def demonstrate(console: Console, folder: Path) -> int:
    deadline = time.monotonic() + DEADLINE - FOR_THE_END
    url = f"embedded://{folder}/redis"
    story, code = Story(folder, COUNTS), None
    async with Docket("demo", url) as docket:
        service = Service(url, folder)
        console.print(f"{story.total:,} tasks on a Redis of their own, {PROCESSES} worker processes")
        try:
            await _work(docket, service, story, Display(console), deadline)
            left = (await docket.snapshot()).total_tasks
            wrong = [f"{left} tasks are left in Redis"] if left else []
        except Failed as failed:
            wrong = [str(failed)]
        finally:
            if service.process.poll() is None:
                code = service.terminate(FOR_THE_END - 5) if story.finished else None
            service.end()
    story.read()
    code = service.process.returncode if code is None else code
    _report(console, story, code)
    wrong += _faults(story, code)
    if not wrong:
        console.print("[bold green]every task ran[/]")
        return 0
    for sentence in wrong:
        console.print(f"[bold red]failed:[/] {sentence}")
    lines = service.log.read_text(errors="replace").splitlines()
    for line in ("", "The end of the supervisor's log:", *(lines[-25:] or ["(nothing)"])):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 1


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    signal.signal(signal.SIGTERM, _interrupt)  # so that everything is cleaned up as after ^C
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="docket-demo-"))
    try:
        return asyncio.run(demonstrate(console, folder))
    except KeyboardInterrupt:
        console.print("interrupted; everything has been stopped")
        return 130
    except DocketError as error:
        console.print(f"[bold red]failed:[/] {error}")
        return 1
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """The server ends with its last user, a moment after us; then its folder can go."""
    give_up_at = time.monotonic() + 3
    while (folder / "redis" / "redis.sock").exists() and time.monotonic() < give_up_at:
        time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
