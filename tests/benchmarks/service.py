"""The processes of a service: what a command started, and all that came of it."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.benchmarks.contestants import PROGRAMS, Broken, Contestant
from tests.benchmarks.server import Server

PATIENCE = 30.0
IN_TIME = 6.0
"""Seconds for an orderly end, after each request for it."""


class Processes:
    """Started within this context, and gone after it. `commands` are without the interpreter.

    They are killed: whatever was to be seen has been seen, and some take seconds for their farewell. What inherits
    from this may ask first."""

    ASKED_WITH: Sequence[signal.Signals] = ()

    def __init__(
        self, contestant: Contestant, environment: dict[str, str], commands: Sequence[str], folder: Path
    ) -> None:
        self._log = folder / "service.log"
        self._started: list[subprocess.Popen[bytes]] = []
        with ExitStack() as undo, self._log.open("ab") as log:
            undo.callback(self.close)
            for command in commands:
                self._started.append(
                    subprocess.Popen(
                        [contestant.python, "-m", *command.split()],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        env=environment,
                        cwd=folder,
                        start_new_session=True,
                    )
                )
            undo.pop_all()

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def pids(self) -> list[int]:
        """Of what was started itself."""
        return [each.pid for each in self._started]

    @property
    def has_ended(self) -> bool:
        """One of them has, and nobody asked it to."""
        return any(each.poll() is not None for each in self._started)

    def everybody(self) -> list[psutil.Process]:
        """Workers and all that belongs to them."""
        found: list[psutil.Process] = []
        for each in self._started:
            try:
                if each.poll() is None:
                    parent = psutil.Process(each.pid)
                    found += [parent, *parent.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
        return found

    def pss(self) -> float:
        """MiB: what is shared is divided among those who share it."""
        return sum(process.memory_full_info().pss for process in self.everybody()) / 2**20

    def cpu(self) -> float:
        times = [process.cpu_times() for process in self.everybody()]
        return sum(each.user + each.system for each in times)

    def close(self) -> None:
        everybody = self.everybody()
        for number in (*self.ASKED_WITH, signal.SIGKILL):
            for each in self._started:
                if each.poll() is None:
                    each.send_signal(number)
            give_up_at = time.monotonic() + IN_TIME
            while any(each.poll() is None for each in self._started) and time.monotonic() < give_up_at:
                time.sleep(0.02)
        for process in everybody:
            if process.is_running():
                process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Service(Processes):
    """docket-supervise, or as many workers of pydocket as there are to be; ready once it is there."""

    ASKED_WITH = (signal.SIGTERM, signal.SIGTERM)

    def __init__(
        self,
        contestant: Contestant,
        server: Server,
        folder: Path,
        processes: int,
        *,
        count: int = 1,
        concurrency: int = 10,
    ) -> None:
        self._processes, self._server = processes, server
        self._is_ours = contestant.name == "ours"
        options = f"--docket bench --url {server.url}{contestant.options} --concurrency {concurrency}"
        options += " --tasks workload:tasks"
        quiet = "--log-level" if self._is_ours else "--logging-level"
        options += f" {quiet} WARNING"
        if self._is_ours:
            commands = [f"docket_supervisor --processes {processes} --app-dir {PROGRAMS} {options}"]
        else:
            commands = [f"docket worker {options}"] * processes
        super().__init__(
            contestant, contestant.environment_for(server.url, folder, count, concurrency), commands, folder
        )
        with ExitStack() as undo:
            undo.callback(self.close)
            self._wait()
            undo.pop_all()

    def _wait(self) -> None:
        give_up_at = time.monotonic() + PATIENCE
        while len(self.workers()) < self._processes or not self._registered():
            if time.monotonic() > give_up_at or self.has_ended:
                raise Broken(f"the service did not come up:\n{self.log()[-2000:]}")
            time.sleep(0.05)

    def _registered(self) -> bool:
        """Both systems keep a sorted set of this name; a worker is in it once it is ready."""
        return int(self._server.client.zcard("bench:workers")) >= self._processes  # pyright: ignore[reportArgumentType]

    def workers(self) -> list[int]:
        """The pids of its worker processes."""
        if not self._is_ours:
            return self.pids
        found: list[int] = []
        for child in psutil.Process(self.pids[0]).children():
            try:
                if "docket: worker " in " ".join(child.cmdline()):
                    found.append(child.pid)
            except psutil.Error:
                continue
        return found
