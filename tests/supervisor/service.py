"""A supervisor in a process of its own whose workers and steward are stand-ins; `python -m` starts it."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
PATIENCE = 15.0
DURATIONS = ("boot_timeout", "restart_window", "kill_margin", "short_drain", "redis_patience", "canary")


def eventually(look: Callable[[], T], what: str | Callable[[], str] = "it", patience: float = PATIENCE) -> T:
    """The first true answer; fails when there is none in time. `what` is asked then, if it can be."""
    give_up_at = time.monotonic() + patience
    while not (answer := look()):
        if time.monotonic() >= give_up_at:
            told = what if isinstance(what, str) else what()
            raise AssertionError(f"{told} did not happen within {patience:g}s")
        time.sleep(0.005)
    return answer


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def source_path() -> str:
    return os.pathsep.join(str(ROOT / part) for part in ("tasks_sdk", "runtime", "supervisor", "."))


class Service:
    """Started with settings by name; everything it says is in `events()` and `log()`."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        if not (folder / "app_tasks.py").exists():
            (folder / "app_tasks.py").write_text("tasks = [print]\n")
        self._log = (folder / "log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.supervisor.service", str(folder), json.dumps(settings)],
            stderr=self._log,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": source_path()},
            cwd=ROOT,
        )

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        path = self.folder / "events"
        # What follows the last line's end is being written just now.
        lines = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
        return [line for line in map(json.loads, lines) if line["event"] in kinds]

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def ready(self, count: int) -> list[int]:
        """The pids of the first `count` workers that became ready."""
        try:
            told = eventually(
                lambda: (events := self.events("ready")) if len(self.events("ready")) >= count else []
            )
        except AssertionError:
            raise AssertionError(f"{count} workers did not become ready\n{self.log()}") from None
        return [event["pid"] for event in told[:count]]

    def order(self, pid: int, command: str) -> None:
        (self.folder / "new-order").write_text(command)
        (self.folder / "new-order").rename(self.folder / f"do-{pid}")

    def obeyed(self, pid: int, command: str) -> None:
        """Ordered and carried out."""
        self.order(pid, command)
        eventually(
            lambda: any(event["pid"] == pid and event["order"] == command for event in self.events("obeyed")),
            command,
        )

    def titles(self) -> list[str]:
        """What its processes are, in order; of one that is just leaving, nothing."""
        found: list[str] = []
        for child in self.children():
            try:
                found.append(" ".join(child.cmdline()).strip())
            except psutil.Error:
                continue
        return sorted(found)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def logged(self, text: str) -> None:
        eventually(lambda: text in self.log(), f"{text!r} in the log")

    def ends(self, patience: float = PATIENCE) -> int:
        return self.process.wait(patience)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def close(self) -> None:
        if self.process.poll() is None:
            for process in psutil.Process(self.process.pid).children(recursive=True):
                process.kill()
            self.process.kill()
            self.process.wait()
        self._log.close()


def main() -> None:
    from docket import logs
    from docket.settings import DocketSettings
    from docket_runtime.settings import WorkerSettings
    from docket_supervisor.program import serve
    from docket_supervisor.settings import SupervisorSettings

    folder, given = sys.argv[1], json.loads(sys.argv[2])
    if text := given.pop("term_when_told", ""):
        logging.getLogger("docket.supervisor").addFilter(partial(_strike, text))
    worker = {name: given.pop(name) for name in ("concurrency", "max_crashes") if name in given}
    for name in ("drain_timeout", "redelivery_timeout"):
        if name in given:
            worker[name] = timedelta(seconds=given.pop(name))
    for name in set(given) & set(DURATIONS):
        given[name] = timedelta(seconds=given[name])
    logs.configure("plain", "DEBUG")
    settings = SupervisorSettings(
        docket=DocketSettings("stand-in", f"stand-in://{folder}"),
        worker=WorkerSettings(tasks=("app_tasks:tasks",), **worker),
        app_dir=folder,
        **given,
    )
    stand_ins = "tests.supervisor.stand_ins"
    sys.exit(serve(settings, run_worker=f"{stand_ins}:run_worker", run_steward=f"{stand_ins}:run_steward"))


def _strike(text: str, record: logging.LogRecord) -> bool:
    """A TERM that comes at the very moment this is told."""
    if text in record.getMessage():
        os.kill(os.getpid(), signal.SIGTERM)
    return True


if __name__ == "__main__":
    main()
