"""How a process ended, in words that belong in a log line and in the record of what it ran."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass


@dataclass(frozen=True)
class Death:
    """`status` is what `wait4` returned; `peak`: the most memory in bytes, shared included, that was ever resident."""

    pid: int
    status: int
    peak: int = 0

    @property
    def signal(self) -> int | None:
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else None

    @property
    def code(self) -> int | None:
        return os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else None

    @property
    def label(self) -> str:
        """One word of few, for a counter."""
        return self.name if self.signal is not None else f"exit-{self.code}"

    @property
    def name(self) -> str:
        """Of the signal; `""` if it exited."""
        if self.signal is None:
            return ""
        try:
            return signal.Signals(self.signal).name
        except ValueError:
            return f"signal-{self.signal}"

    @property
    def cause(self) -> str:
        """`killed by SIGSEGV` or `exited with status 1`."""
        if self.signal is None:
            return f"exited with status {self.code}"
        try:
            return f"killed by {signal.Signals(self.signal).name}"
        except ValueError:
            return f"killed by signal {self.signal}"
