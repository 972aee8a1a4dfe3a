"""What a worker that is alone does for the others: gives over the work of those that have lapsed or died."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil
from redis.exceptions import RedisError

from docket.errors import DocketError
from docket.message import name_of
from docket.snapshot import WorkerInfo, workers
from docket.store import scripts
from docket.store.asynchronous import AsyncStore
from docket.store.keys import Keys
from docket.store.refusals import Forbidden, ForeignKey

_LOG = logging.getLogger("docket.worker")


def host() -> str:
    """Names this machine and, in containers, the process namespace: only within it does a process id mean anything."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()} {boot} {namespace}"


def process(pid: int | None = None) -> str:
    """A process id and the moment at which it began: ids are used again.

    In ticks since the machine started, where the system says so: the wall clock can be set, and the same process would
    seem to be another one.
    """
    pid = os.getpid() if pid is None else pid
    try:
        # The name of the program may hold anything, so the fields are counted from behind it.
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return f"{pid}@{stat.rpartition(')')[2].split()[19]}"
    except (FileNotFoundError, ProcessLookupError):  # no such file system; or it ends while it is looked at
        return f"{pid}@{round(psutil.Process(pid).create_time())}"


def _has_ended(identity: str) -> bool:
    pid, _, _ = identity.partition("@")
    try:
        found = psutil.Process(int(pid))
        return found.status() == psutil.STATUS_ZOMBIE or process(int(pid)) != identity
    except psutil.NoSuchProcess:
        return not _is_hidden(int(pid))
    except (psutil.Error, ValueError):
        return False


def _is_hidden(pid: int) -> bool:
    """Whether there is a process that /proc does not show: it may keep those of other users to itself (hidepid=2,
    systemd's ProtectProc=invisible). Whether a signal would find one the kernel says in any case."""
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError) as error:
        return isinstance(error, PermissionError)  # it is another user's
    return True


class Housekeeping:
    """Sweeps from time to time, unless somebody else does."""

    def __init__(
        self,
        store: AsyncStore,
        keys: Keys,
        *,
        redelivery_timeout: timedelta,
        max_crashes: int,
        vouched: Callable[[], bool],
        suspected: Callable[[], object] = lambda: None,
    ) -> None:
        """`suspected` is called when there are new suspects: what is called out may come before anybody listens."""
        self._suspected = suspected
        self._store, self._keys = store, keys
        self._pause = min(redelivery_timeout.total_seconds() / 4, 5.0)
        self._max_crashes, self._vouched = max_crashes, vouched
        self._host = host()
        self._told = ""

    async def run(self) -> None:
        while True:
            if not self._vouched():
                for round in (self._bury_neighbours, self._sweep):
                    try:
                        await round()
                    except (ForeignKey, Forbidden) as error:
                        self._tell(error)
                    except (RedisError, DocketError, OSError) as error:
                        _LOG.debug("could not sweep: %s", error)
            await asyncio.sleep(self._pause * random.uniform(0.8, 1.2))

    def _tell(self, error: Exception) -> None:
        """Once: it is tried again every few seconds, until somebody has mended it."""
        if str(error) != self._told:
            self._told = str(error)
            _LOG.warning("Redis refuses (%s: %s); nobody is swept up meanwhile", type(error).__name__, error)

    async def _sweep(self) -> None:
        while True:
            rows = await self._store.ask(scripts.sweep(self._keys, self._max_crashes))
            for row in rows:
                self._report(row, "lapsed")
            if len(rows) < scripts.MOST_SWEPT:
                return

    async def _bury_neighbours(self) -> None:
        """On its own host a worker can see that another has died; its work need not wait for the lease to lapse."""
        for worker in await self._store.perform(workers(self._keys)):
            if worker.host == self._host and await asyncio.to_thread(_has_ended, worker.process):
                await self._bury(worker)

    async def _bury(self, worker: WorkerInfo) -> None:
        cause = f"its worker's process ({worker.process.partition('@')[0]} on this host) has ended"
        row = await self._store.ask(
            scripts.hand_over(self._keys, worker.worker_id, cause, max_crashes=self._max_crashes, begun=None)
        )
        self._report(row, "died")

    def _report(self, row: list[bytes | int | list[bytes]], what: str) -> None:
        worker_id, returned, suspects, dead = row
        assert isinstance(worker_id, bytes) and isinstance(dead, list)
        if suspects:
            self._suspected()
        _LOG.warning(
            "worker %s has %s: %s executions went back in line, %s are run again alone, %d were set aside",
            name_of(worker_id.decode()),
            what,
            returned,
            suspects,
            len(dead),
        )
