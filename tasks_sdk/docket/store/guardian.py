"""The small detached process that starts one redis-server and ends it after its last user has left.

Three lock files in the server's folder carry the whole agreement; the kernel keeps it even when a process is killed:

- `users.lock`: shared by every process that uses the server, for as long as it does. Whoever gets it *exclusively*
  knows that nobody is left; newcomers wait meanwhile, so no user ever finds a server that is just being ended.
- `guardian.lock`: held by the guardian for its lifetime, taken for it by the process that starts it (an flock belongs
  to the open file and so survives the exec). Its content is the path of the server's socket.
- `server.lock`: inherited by redis-server itself, so that however a guardian ended, two servers can never write one
  append-only file.

It runs as `python -I -S guardian.py …`, in a session of its own: a ^C at the terminal is meant for the users, who
will need the server while they drain. Hence also: standard library only, and nothing of docket.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

USERS, GUARDIAN, SERVER, STAY, LOG = "users.lock", "guardian.lock", "server.lock", "stay", "server.log"

PATIENCE = 10.0
"""Seconds that anything here may take before it is given up. Only loading a large file may take longer."""

_TURN = 0.004
_PR_SET_PDEATHSIG = 1


def take(lock: int, kind: int, seconds: float = 0.0) -> bool:
    """Whether the flock was had within this time."""
    give_up_at = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= give_up_at:
                return False
            time.sleep(_TURN)


def ask(socket_path: str | bytes, command: bytes = b"PING") -> bytes:
    """The first line of the server's answer; `b""` when nobody answers."""
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(1.0)
            link.connect(socket_path)
            link.sendall(command + b"\r\n")
            return link.recv(512).partition(b"\r\n")[0]
    except OSError:
        return b""


def is_loading(answer: bytes) -> bool:
    return answer.startswith(b"-LOADING")


class Guardian:
    """Keeps one redis-server alive while it has users; the current directory is its folder."""

    def __init__(self, folder: str, socket_path: str, binary: str, *, throw_away: bool) -> None:
        self._folder = Path(folder)
        self._socket = socket_path
        self._binary = binary
        self._throw_away = throw_away
        self._server: subprocess.Popen[bytes] | None = None
        self._users = os.open(USERS, os.O_RDWR | os.O_CREAT, 0o600)

    def run(self) -> None:
        """Returns when the server has ended, or could not be started (its log says why)."""
        unused, tell = os.pipe()
        threading.Thread(target=self._wait_until_unused, args=(tell,), daemon=True).start()
        while self._ensure_server():
            self._wait_for_news(unused)
            if self._may_leave(unused):
                self._end_server()
                self._clean_up()
                return
            time.sleep(0.1)  # it died under its users: bring it back, but don't spin when it dies at once

    def _wait_until_unused(self, tell: int) -> None:
        fcntl.flock(self._users, fcntl.LOCK_EX)
        os.write(tell, b".")

    def _wait_for_news(self, unused: int) -> None:
        """Returns when the last user has left, or when the server has closed the connection: it died."""
        with socket.socket(socket.AF_UNIX) as link:
            try:
                link.connect(self._socket)
            except OSError:
                return
            ready, _, _ = select.select([link, unused], [], [])
            if unused in ready and Path(STAY).exists():
                # It shall outlive its users: let newcomers in again, and wait for the server's own end.
                os.read(unused, 1)
                fcntl.flock(self._users, fcntl.LOCK_UN)
                select.select([link], [], [])

    def _may_leave(self, unused: int) -> bool:
        """Nobody uses the server, and none will: `users.lock` is held exclusively, by the thread or from now."""
        return bool(select.select([unused], [], [], 0)[0]) or take(self._users, fcntl.LOCK_EX)

    def _ensure_server(self) -> bool:
        lock = os.open(SERVER, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # Held: a server from before a guardian was killed. It is either in service or on its way out.
            give_up_at = time.monotonic() + PATIENCE
            while not take(lock, fcntl.LOCK_EX):
                answer = ask(self._socket)
                if answer and not is_loading(answer):
                    return True
                if not answer and time.monotonic() >= give_up_at:
                    print(f"the old server in {self._folder} neither answers nor ends", file=sys.stderr)
                    return False
                time.sleep(_TURN)
            self._server = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                pass_fds=(lock,),
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
        except OSError as error:
            print(f"cannot run {self._binary}: {error}", file=sys.stderr)
            return False
        finally:
            os.close(lock)
        return self._await_answer(self._server)

    def _await_answer(self, server: subprocess.Popen[bytes]) -> bool:
        give_up_at = time.monotonic() + PATIENCE
        while server.poll() is None:
            answer = ask(self._socket)
            if is_loading(answer):
                give_up_at = time.monotonic() + PATIENCE
            elif answer:
                return True
            elif time.monotonic() >= give_up_at:
                server.kill()
                server.wait()
            time.sleep(_TURN)
        print(f"redis-server ended at start with code {server.returncode}", file=sys.stderr)
        return False

    def _command(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": self._socket,
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "save": "",
            "appendonly": "no" if self._throw_away else "yes",
            "appendfsync": "everysec",
            "daemonize": "no",
        }
        return [self._binary, *(word for name, value in options.items() for word in (f"--{name}", value))]

    def _end_server(self) -> None:
        # NOSAVE is about dump files; the append-only file is written and synced all the same.
        ask(self._socket, b"SHUTDOWN NOSAVE")
        if self._server is None:  # taken over from a guardian that was killed
            give_up_at = time.monotonic() + PATIENCE
            while ask(self._socket) and time.monotonic() < give_up_at:
                time.sleep(_TURN)
            return
        self._server.terminate()  # the same in slow: obeyed even when the socket's path is gone
        try:
            self._server.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()

    def _clean_up(self) -> None:
        Path(self._socket).unlink(missing_ok=True)
        Path(STAY).unlink(missing_ok=True)
        if self._throw_away:
            # Moved away in one step first: a newcomer must find either the whole folder or none.
            gone = self._folder.with_name(f"{self._folder.name}-{os.getpid()}")
            try:
                self._folder.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)
                self._folder.parent.rmdir()
            except OSError:
                pass  # other servers of the same process tree live there, or somebody has tidied up already


def _end_with_parent() -> None:
    """Linux ends the server if its guardian is killed: a server without a guardian would never end."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def main(folder: str, socket_path: str, binary: str, throw_away: str) -> None:
    if os.fork():
        os._exit(0)  # the starter waits for this one only, so that the guardian never becomes its zombie
    for unwanted in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(unwanted, signal.SIG_IGN)  # sent to a whole group at a stop, when users still drain
    os.umask(0o077)  # the folder may have been there before us, open to everybody; the data shall not be
    Guardian(folder, socket_path, binary, throw_away=throw_away == "throw-away").run()


if __name__ == "__main__":
    main(*sys.argv[1:])
