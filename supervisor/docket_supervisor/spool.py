"""One anonymous file for each process of the service, into which it writes its stacks: readable also after its death.

Files and not pipes: a process that writes because it crashes, or because it does not turn any more, must never have to
wait for its reader.
"""

from __future__ import annotations

import fcntl
import os
import resource
from collections.abc import Sequence

from docket_supervisor.anonymous import anonymous_file

_MOST = 4_000_000
"""Bytes of one dump that are read; a thousand stacks."""


class Spool:
    """Made before the first fork. The numbers are those of the seats; behind them come the steward and the template."""

    def __init__(self, seats: int, files: Sequence[int] | None = None) -> None:
        """`files`: those of an earlier supervisor, which this one has taken the place of."""
        self.steward, self.template = seats, seats + 1
        if files is None:
            _make_room(seats + 2)
        self._files = list(files) if files is not None else [_anonymous() for _ in range(seats + 2)]

    @property
    def files(self) -> tuple[int, ...]:
        """The descriptors, in the order in which they are given back."""
        return tuple(self._files)

    def file(self, number: int) -> int:
        return self._files[number]

    def size(self, number: int) -> int:
        return os.fstat(self._files[number]).st_size

    def take(self, number: int) -> str:
        """What was written since the last time."""
        file = self._files[number]
        text = os.pread(file, _MOST, 0).decode(errors="replace")
        os.ftruncate(file, 0)
        return text

    def keep_only(self, number: int) -> None:
        """The others are closed: what a worker needs not, it shall not have. Numbers stay as they are."""
        for other, file in enumerate(self._files):
            if other != number and file >= 0:
                os.close(file)
                self._files[other] = -1

    def close(self) -> None:
        self.keep_only(-1)


def _make_room(files: int) -> None:
    """A service of hundreds of processes would come near the usual limit of descriptors by these alone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = soft + files if hard == resource.RLIM_INFINITY else min(soft + files, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def _anonymous() -> int:
    """Appended to, so that two writers of one file do not overwrite each other, and a truncated one begins anew."""
    file = anonymous_file("docket stacks")
    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
    return file
