"""Notices that a Python file of the application's folder has changed, by looking; for development only.

Looking, not inotify: it sees what an editor does on the other side of a container's mount or a network file system, it
needs neither a thread nor a library in the process that forks all the others, and half a second is soon enough for a
person. The longer a look takes, the rarer it is, so that a huge folder costs a twentieth of a core at most.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from docket import clock

LOOK_EVERY = 0.5
SETTLE = 0.1
"""Seconds without a further change after which a change counts: a checkout or a formatter writes many files."""
_SHARE = 20
_NEVER = frozenset({"__pycache__", "node_modules"})

Print = tuple[int, int, int]


class Watch:
    """The files as they are now are what changes are measured against."""

    def __init__(self, folder: str) -> None:
        self._folder = os.path.abspath(folder)
        self._seen = self._look()
        self._changed: set[str] = set()
        self._next_look = clock.monotonic() + LOOK_EVERY

    @property
    def next_look(self) -> float:
        return self._next_look

    def turn(self, now: float) -> list[str]:
        """The files that have been changed, made or removed, by their names in the folder; nothing while it goes on."""
        if now < self._next_look:
            return []
        began = clock.monotonic()
        files = self._look()
        fresh = {path for path, _ in files.items() ^ self._seen.items()}
        self._seen = files
        pause = SETTLE if fresh else LOOK_EVERY
        self._next_look = now + max(pause, _SHARE * (clock.monotonic() - began))
        self._changed |= fresh
        if fresh or not self._changed:
            return []
        settled, self._changed = sorted(self._changed), set()
        return settled

    def _look(self) -> dict[str, Print]:
        return dict(_python_files(self._folder, self._folder))


def enumerated(names: list[str], most: int = 3) -> str:
    """The first few of them, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _python_files(folder: str, root: str) -> Iterator[tuple[str, Print]]:
    """Not what is hidden, and no environment with libraries in it."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    if folder != root and any(entry.name == "pyvenv.cfg" for entry in entries):
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name in _NEVER:
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _python_files(entry.path, root)
            elif entry.name.endswith(".py"):
                found = entry.stat()
                yield os.path.relpath(entry.path, root), (found.st_mtime_ns, found.st_size, found.st_ino)
        except OSError:
            # Gone between two steps, or a link to nowhere: as if it had not been there.
            continue
