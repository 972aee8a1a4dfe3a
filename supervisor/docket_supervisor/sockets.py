"""Unix sockets in the file system: where ours is by default, and how to name one whose path is too long."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress

import psutil

_LONGEST = 100
"""Bytes; the kernel takes 107, and on some systems 103."""
PATIENCE = 10.0
"""Seconds for a supervisor to answer; it does so between two turns of its loop."""
_NAME = re.compile(r"docket-(?P<docket>.+)-(?P<pid>\d+)\.sock")


def folders() -> list[str]:
    """Where sockets without a path of their own are: the first is where a new one goes."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    found = [runtime] if runtime and os.path.isdir(runtime) else []
    return list(dict.fromkeys([*found, tempfile.gettempdir()]))


def default_path(docket: str, pid: int) -> str:
    return os.path.join(folders()[0], f"docket-{_in_a_file_name(docket)}-{pid}.sock")


def standing(docket: str | None = None, pid: int | None = None) -> list[str]:
    """Paths of sockets in the default folders, living or not, of this docket and this supervisor if they are given."""
    wanted = None if docket is None else _in_a_file_name(docket)
    found: list[str] = []
    for folder in folders():
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for name in names:
            match = _NAME.fullmatch(name)
            if match and wanted in (None, match["docket"]) and pid in (None, int(match["pid"])):
                found.append(os.path.join(folder, name))
    return found


def sweep() -> None:
    """Those whose supervisors were killed are gone: nobody else would ever remove them."""
    for path in standing():
        match = _NAME.fullmatch(os.path.basename(path))
        if match and not psutil.pid_exists(int(match["pid"])):
            with suppress(OSError):
                os.unlink(path)


def _in_a_file_name(docket: str) -> str:
    return re.sub(r"[^\w.+-]", "_", docket)[:100]


@contextmanager
def address(path: str) -> Generator[str]:
    """A name for this path that `bind` and `connect` take; it is good inside the block only."""
    if len(os.fsencode(path)) <= _LONGEST:
        yield path
        return
    folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)


def connected(path: str) -> socket.socket | None:
    """A connection to whoever listens there; None if nobody does. Other errors (no permission) are OSErrors."""
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.settimeout(PATIENCE)
    try:
        with address(path) as name:
            ours.connect(name)
    except (ConnectionRefusedError, FileNotFoundError, NotADirectoryError):
        ours.close()
        return None
    except BaseException:
        ours.close()
        raise
    return ours
