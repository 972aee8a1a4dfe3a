"""A ledger outside Redis, in which tasks themselves write down that they have begun and ended.

The broker is never asked for evidence about the broker. A line is written in one piece and is there when `write` has
returned, whatever happens to the process afterwards.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docket import clock

VARIABLE = "DOCKET_CHAOS_WITNESS"
"""Names the file, for every process of the service."""

SERVICE_VARIABLE = "DOCKET_CHAOS_SERVICE"
"""Which service it is: 1, and one more whenever another one had to be started."""

RETURNED, RAISED, INTERRUPTED = "returned", "raised", "interrupted"


@dataclass
class Run:
    """One time that an execution's body was run. `ended`: "" if nobody has seen its end.

    Instants are of the monotonic clock, which all processes of a machine share.
    """

    key: str
    task: str
    pid: int
    attempt: int
    began_at: float
    ended: str = ""
    ended_at: float = 0.0
    version: int = 0
    """Of a key that is replaced again and again: for the how manieth time it was."""
    due_at: float = 0.0
    service: int = 1

    @property
    def done(self) -> bool:
        return self.ended == RETURNED


class Witness:
    """Writes into one file, from any number of processes and threads."""

    def __init__(self, path: str | Path | None = None) -> None:
        self._path = str(path or os.environ[VARIABLE])

    @contextmanager
    def running(
        self, key: str, task: str, attempt: int = 1, *, version: int = 0, due_at: float = 0.0
    ) -> Generator[None, None, None]:
        """Around the whole body of a task."""
        run = f"{os.getpid()}-{clock.monotonic()!r}"
        more = {"version": version, "due_at": due_at, "service": int(os.environ.get(SERVICE_VARIABLE, 1))}
        self._write("began", run, key=key, task=task, pid=os.getpid(), attempt=attempt, **more)
        how = RAISED
        try:
            yield
            how = RETURNED
        except BaseException as error:
            # Cancellations, and what ends the body of a sync task, are no `Exception`s.
            how = RAISED if isinstance(error, Exception) else INTERRUPTED
            raise
        finally:
            self._write("ended", run, how=how)

    def _write(self, event: str, run: str, **more: Any) -> None:
        line = json.dumps({"event": event, "run": run, "at": clock.monotonic(), **more}) + "\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


def seen(path: Path) -> list[Run]:
    """Every run, in the order in which they began. What follows the last line's end is being written just now."""
    runs: dict[str, Run] = {}
    for line in _lines(path):
        if line["event"] == "began":
            more = {name: line[name] for name in ("version", "due_at", "service")}
            runs[line["run"]] = Run(
                line["key"], line["task"], line["pid"], line["attempt"], line["at"], **more
            )
        else:
            runs[line["run"]].ended = line["how"]
            runs[line["run"]].ended_at = line["at"]
    return sorted(runs.values(), key=lambda run: run.began_at)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        whole = path.read_text().rpartition("\n")[0]
        yield from map(json.loads, whole.splitlines())
