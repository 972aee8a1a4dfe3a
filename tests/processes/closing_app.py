"""A task that kills the first worker that runs it, and what it opens in each: whoever closes that first never can."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from docket.dependencies import Shared, TaskKey
from tests.processes.evidence import VARIABLE, note, running


@asynccontextmanager
async def pool() -> AsyncGenerator[str]:
    yield "a pool"
    closed = Path(f"{os.environ[VARIABLE]}-closed")
    if not closed.exists():
        closed.touch()
        await asyncio.Event().wait()


async def kill_its_first_worker(marker: str, key: str = TaskKey(), pool: str = Shared(pool)) -> None:
    with running(key):
        if not Path(marker).exists():
            Path(marker).touch()
            os._exit(9)


tasks = [kill_its_first_worker, note]
