"""Processes of ours that are looked after while they run, and asked to leave."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.benchmarks.contestants import OURS, Broken
from tests.benchmarks.server import Server
from tests.benchmarks.service import Processes

PATIENCE = 120.0


class Started(Processes):
    """`commands` are without the interpreter; `settings`: further variables."""

    def __init__(
        self, server: Server, folder: Path, commands: Sequence[str], count: int, **settings: str
    ) -> None:
        super().__init__(OURS, OURS.environment_for(server.url, folder, count) | settings, commands, folder)

    def cpu(self) -> float:
        """Seconds; without those who have left, also while it is looked at."""
        total = 0.0
        for process in self.everybody():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total

    def look_after(self, deadline: float) -> None:
        """Broken if one of them has ended, or the deadline has passed."""
        if self.has_ended or time.monotonic() > deadline:
            what = "a process has ended" if self.has_ended else "not in time"
            raise Broken(f"{what}:\n{self.log()[-2000:]}")

    def leave(self) -> float:
        """Asked to; seconds that it takes."""
        began = time.monotonic()
        for each in self._started:
            each.send_signal(signal.SIGTERM)
        try:
            for each in self._started:
                each.wait(PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise Broken(f"it does not leave:\n{self.log()[-2000:]}") from error
        return time.monotonic() - began
