"""The Prometheus client's values, in files that the disk has room for.

The client stretches a file and maps it. On a full disk both succeed, and the first store kills the process (SIGBUS):
the task that counted something would look as if it killed its workers. Here every block is reserved before; where there
is no room, values are kept in memory and not shown.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast

import prometheus_client.values as client
from prometheus_client.mmap_dict import MmapedDict

logger = logging.getLogger("docket.worker")

_FIRST = mmap.PAGESIZE
"""Bytes of a new file. The client's are 64 KiB, of which it uses a few; of ours all are taken from the disk."""
_HEAD, _FRAME = 8, 32
"""Bytes before the first value, and at most as many around each key."""


def value_class(identity: Callable[[], str]) -> type:
    """What the client is to make its values of. Their files are named after `identity`, whoever that is by then."""
    warning = _Warning()
    # It has no parameter for this. Readers of files, and who wants the class itself, find the client's own elsewhere.
    client.MmapedDict = lambda path: Reserved(path, warning.of)  # pyright: ignore
    theirs: Any = client.MultiProcessValue(identity)  # pyright: ignore[reportUnknownMemberType]

    # A handler of log records may count them. So nothing is logged while the client holds a lock: not where a file is
    # opened, nor while a metric makes itself a value, but when that has been counted in.
    class Value(theirs):
        def inc(self, amount: float) -> None:
            theirs.inc(self, amount)
            warning.tell()

        def set(self, value: float, timestamp: float | None = None) -> None:
            theirs.set(self, value, timestamp)
            warning.tell()

    return Value


class _Warning:
    """Told once by each process."""

    def __init__(self) -> None:
        self._due: tuple[int, str, OSError] | None = None
        self._told_by = 0

    def of(self, path: str, error: OSError) -> None:
        if self._told_by != os.getpid():
            self._due = os.getpid(), path, error

    def tell(self) -> None:
        if self._due is None:
            return
        (pid, path, error), self._due = self._due, None
        # What the template had no room for its children do not use.
        if pid == os.getpid():
            self._told_by = pid
            logger.warning(
                "no room for metrics of the tasks in %s: %s; of this process, /metrics is without all or some: "
                "make room and reload, or restart with %s set to another folder",
                path,
                error.strerror or error,
                "PROMETHEUS_MULTIPROC_DIR",
            )


class _File(Protocol):
    """The client's class for files, as far as its values use it."""

    def read_all_values(self) -> Iterable[tuple[str, float, float]]: ...
    def read_value(self, key: str) -> tuple[float, float]: ...
    def write_value(self, key: str, value: float, timestamp: float) -> None: ...
    def close(self) -> None: ...


class Reserved:
    """In the place of that class. The client's file is never asked to hold more than it does, so it never stretches
    itself: when it is to grow, it is reserved at twice the size and opened again."""

    def __init__(self, path: str, lacking: Callable[[str, OSError], None]) -> None:
        self._path = path
        self._lacking = lacking
        self._file: _File | None = None
        self._in_file: set[str] = set()
        self._in_memory: dict[str, tuple[float, float]] = {}
        self._size = self._used = 0
        self._open(_FIRST)

    def read_value(self, key: str) -> tuple[float, float]:
        """Comes before everything that is written under this key."""
        if key not in self._in_file and key not in self._in_memory:
            self._place(key)
        if self._file is None or key in self._in_memory:
            return self._in_memory[key]
        return self._file.read_value(key)

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        if self._file is None or key in self._in_memory:
            self._in_memory[key] = value, timestamp
        else:
            self._file.write_value(key, value, timestamp)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _place(self, key: str) -> None:
        needed, size = self._used + _length(key), self._size
        while self._file is not None and size < needed:
            size *= 2
        if self._file is None or (size > self._size and not self._open(size)):
            self._in_memory[key] = 0.0, 0.0
        else:
            self._in_file.add(key)
            self._used += _length(key)

    def _open(self, size: int) -> bool:
        """Whether the file is as large as this now; if not, all is as before."""
        try:
            size = reserve(self._path, size)
            file = cast("_File", MmapedDict(self._path))
        except OSError as error:
            self._lacking(self._path, error)
            return False
        self.close()
        self._file, self._size = file, size
        self._in_file = {key for key, _, _ in file.read_all_values()}
        self._used = _HEAD + sum(map(_length, self._in_file))
        return True


def _length(key: str) -> int:
    return _FRAME + len(key.encode())


def reserve(path: str, size: int) -> int:
    """The size of the file: as large as that at least, and with every block its own. OSError if that cannot be."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        before = os.fstat(file).st_size
        size = max(size, before)
        try:
            _allocate(file, size)
        except OSError:
            os.ftruncate(file, before)  # gives back what there was
            raise
    finally:
        os.close(file)
    return size


def _allocate(file: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
    # macOS, and some file systems where libc does not do it by itself.
    content = os.pread(file, size, 0).ljust(size, b"\0")
    while content:
        content = content[os.pwrite(file, content, size - len(content)) :]
