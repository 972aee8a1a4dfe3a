"""A real redis-server of a test's or a drill's own, which may also be killed, stopped and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from docket import clock
from docket.store.guardian import ask
from docket.store.servers import find_redis_server


class RedisServer:
    """On a Unix socket in `folder`, with an append-only file there; not running until `start()`."""

    def __init__(self, folder: Path, *, port: int = 0, more: Sequence[str] = ()) -> None:
        """`more`: further options of redis-server."""
        self.folder = folder
        self.more = more
        self.port = port
        self.socket_path = str(folder / "redis.sock")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket_path}"

    def start(self) -> None:
        """It answers. Data of an earlier run in the same folder are there again."""
        options = f"--port {self.port} --bind 127.0.0.1 --appendonly yes --appendfsync no --save".split()
        with open(self.folder / "redis.log", "ab") as log:
            self.process = subprocess.Popen(
                [
                    find_redis_server(),
                    *options,
                    "",
                    "--unixsocket",
                    self.socket_path,
                    "--dir",
                    str(self.folder),
                    *self.more,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        give_up_at = clock.monotonic() + 10
        while ask(self.socket_path) != b"+PONG":
            if self.process.poll() is not None or clock.monotonic() > give_up_at:
                raise RuntimeError((self.folder / "redis.log").read_text(errors="replace")[-2000:])
            time.sleep(0.005)

    def stop(self) -> None:
        """Ended in good order; nothing if it is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """It accepts connections and answers nothing, until `resume()`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(how)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if os.path.exists(self.socket_path):
            os.unlink(self.socket_path)
