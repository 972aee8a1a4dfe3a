"""Commands that were started, what CPU they and all that came of them have used, and how they leave."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.benchmarks.contestants import Broken

PATIENCE = 120.0


class Started:
    """Killed at the end of this context, if they have not been told to `leave` before."""

    def __init__(
        self, commands: Sequence[Sequence[str]], environment: Mapping[str, str], folder: Path
    ) -> None:
        self._log = folder / "started.log"
        with self._log.open("ab") as log:
            self._processes = [
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    start_new_session=True,
                )
                for command in commands
            ]

    def everybody(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for each in self._processes:
            if each.poll() is None:
                parent = psutil.Process(each.pid)
                found += [parent, *parent.children(recursive=True)]
        return found

    def cpu(self) -> float:
        """Seconds; without those who have left."""
        total = 0.0
        for process in self.everybody():
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            total += times.user + times.system
        return total

    def look_after(self, deadline: float) -> None:
        """Broken if one of them has ended, or the deadline has passed."""
        ended = any(each.poll() is not None for each in self._processes)
        if ended or time.monotonic() > deadline:
            log = self._log.read_text(errors="replace")[-2000:]
            raise Broken(f"{'a process has ended' if ended else 'not in time'}:\n{log}")

    def leave(self) -> float:
        """Asked to; seconds that it takes."""
        began = time.monotonic()
        for each in self._processes:
            each.send_signal(signal.SIGTERM)
        for each in self._processes:
            each.wait(PATIENCE)
        return time.monotonic() - began

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        everybody = self.everybody()
        for each in self._processes:
            each.kill()
            each.wait()
        for process in everybody:
            if process.is_running():
                process.kill()
