"""How a process ended, in words that belong in a log line and in the record of what it ran."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass


@dataclass(frozen=True)
class Death:
    """`status` is what `waitpid` returned."""

    pid: int
    status: int

    @property
    def signal(self) -> int | None:
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else None

    @property
    def code(self) -> int | None:
        return os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else None

    @property
    def label(self) -> str:
        """One of a few words, to count by: `SIGSEGV`, `exit-1`."""
        if self.signal is None:
            return f"exit-{self.code}"
        return self.cause.rpartition(" ")[2]

    @property
    def cause(self) -> str:
        """`killed by SIGSEGV` or `exited with status 1`."""
        if self.signal is None:
            return f"exited with status {self.code}"
        try:
            return f"killed by {signal.Signals(self.signal).name}"
        except ValueError:
            return f"killed by signal {self.signal}"
