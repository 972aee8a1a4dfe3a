"""A file that names the running supervisor, and keeps a second one from starting."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

from docket_supervisor.taken import Taken


def pid_in(path: str, content: bytes) -> int | None:
    """None if there is nothing in it; Taken if there is anything but a pid."""
    text = content.decode(errors="replace").strip()
    if not text:
        return None
    if not text.isdecimal() or not 0 < int(text) < 2**31:
        raise Taken(f"expected a pid in the pidfile {path}, got {text[:40]!r}; remove it if nobody needs it")
    return int(text)


class Pidfile:
    """Ours from `claim` until `release`, also against another process that claims it at the same moment.

    The lock answers that question; the number in the file is for people and scripts, and for the case that whoever
    wrote it was no supervisor of ours.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = -1

    def claim(self) -> None:
        """Taken if it names a living process, is held by one, or holds anything but a pid. OSError if it cannot be
        written."""
        while self._descriptor < 0:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                self._lock(descriptor)
                # Whoever held it may have removed the file between our two steps: then we have locked a ghost.
                if not _is_still(descriptor, self.path):
                    os.close(descriptor)
                    continue
                self._examine(os.pread(descriptor, 100, 0))
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
            except BaseException:
                os.close(descriptor)
                raise
            self._descriptor = descriptor

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 100, 0).decode(errors="replace").strip()
            raise Taken(f"the pidfile {self.path} is held by process {holder or 'unknown'}") from None

    def _examine(self, content: bytes) -> None:
        pid = pid_in(self.path, content)
        if pid is not None and pid != os.getpid() and _is_there(pid):
            raise Taken(f"the pidfile {self.path} names process {pid}, which is running")

    def close(self) -> None:
        """What a forked child does: it must not hold the lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def release(self) -> None:
        """The file is gone, if it is still ours."""
        if self._descriptor >= 0:
            if _is_still(self._descriptor, self.path):
                with suppress(OSError):
                    os.unlink(self.path)
            self.close()


def _is_still(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
