"""Work that keeps coming while a test does something to the service."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.fleet import Evidence, eventually


@contextmanager
def constant_load(docket: Docket, evidence: Evidence) -> Generator[None]:
    """From when the first of it runs; after the block, all of it has run, and each exactly once."""
    stop = threading.Event()
    added: list[str] = []

    def add() -> None:
        while not stop.wait(0.01):
            for task in (does.wait, does.wait_sync):
                key = f"load-{len(added)}"
                docket.add(task, key=key)(0.03)
                added.append(key)

    adding = threading.Thread(target=add)
    adding.start()
    try:
        evidence.running_in("load-0")
        yield
    finally:
        stop.set()
        adding.join()
    eventually(lambda: len(evidence.lines("ended")) >= len(added), "everything has run", patience=30)
    assert all(evidence.ran_once(key) for key in added)
