"""A task that starts programs which start others, and which may be deaf to TERM."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from docket.dependencies import TaskKey
from tests.processes.evidence import write


def start_a_family(script: str, apart: bool, path: str, key: str = TaskKey()) -> None:
    """By a shell. Waits as long as there is no such file; once there is, it has nothing to do."""
    if Path(path).exists():
        return
    program = subprocess.Popen(["sh", "-c", script], start_new_session=apart)
    write("program", key, program=program.pid)
    while not Path(path).exists():
        time.sleep(0.01)


async def start_a_family_and_block(script: str, apart: bool, path: str, key: str = TaskKey()) -> None:
    start_a_family(script, apart, path, key)


tasks = [start_a_family, start_a_family_and_block]
