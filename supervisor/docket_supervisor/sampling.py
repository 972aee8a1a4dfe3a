"""What a worker of these tasks weighs: one is forked as the template does it, and looked at before it does anything."""

from __future__ import annotations

import logging
import os
import signal
import time
from dataclasses import dataclass
from functools import partial

import psutil

from docket.settings import DocketSettings
from docket_supervisor.child import resolve
from docket_supervisor.forking import fork
from docket_supervisor.settings import SupervisorSettings
from docket_supervisor.sharing import share_memory

SETTLED = 0.7
"""Seconds after which a worker has loaded what it needs and waits for a Redis."""
NOWHERE = "unix:///dev/null/redis.sock"
"""A server that cannot be reached: the sample must not take work from a service that runs."""


@dataclass(frozen=True)
class Weight:
    """In bytes; `shared`: also in use by the process that it was forked from."""

    shared: int
    private: int

    def __str__(self) -> str:
        return f"{self.shared / 2**20:.1f} MiB shared with the template, {self.private / 2**20:.1f} MiB of its own"


def weigh(settings: SupervisorSettings, run_worker: str) -> Weight | None:
    """Of a worker forked from this process, which is what a template would be; None if it does not live that long."""
    share_memory(settings, run_worker)
    pid = fork(partial(_idle, settings, run_worker))
    try:
        time.sleep(SETTLED)
        memory = psutil.Process(pid).memory_full_info()
        return Weight(shared=memory.rss - memory.uss, private=memory.uss)
    except psutil.Error:
        return None
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _idle(settings: SupervisorSettings, run_worker: str) -> int:
    logging.disable(logging.CRITICAL)
    return resolve(run_worker)(DocketSettings(name=settings.docket.name, url=NOWHERE), settings.worker, None)
