"""Who is measured: an interpreter, a program, and the settings that make it fast."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.benchmarks.environments import CACHE, REPOSITORY, Broken, prepared
from tests.benchmarks.programs.marks import COUNT, FOLDER

__all__ = ["CACHE", "REPOSITORY", "PROGRAMS", "FLOOR", "OURS", "Broken", "Contestant", "Player", "pydocket"]

PROGRAMS = Path(__file__).parent / "programs"


@dataclass(frozen=True)
class Contestant:
    """`interval_ms`: pydocket looks for work this often at most; a short one makes it fast, and its idling dear.
    `options`: of the URL; by default redis-py's pool refuses pydocket its 101st connection.
    `cannot`: what there is no way to do, and why; a measure that needs it shows "–" and the reason."""

    name: str
    python: str = ""
    program: str = "contestant.py"
    options: str = ""
    interval_ms: int = 1
    share: float = 1.0
    """Of the tasks that the fast ones are given: who takes longer is given fewer, and the run stays bounded."""
    packages: Sequence[str] = ()
    """As they were installed, name==version."""
    settings: str = ""
    """What makes it fast, in words for the page."""
    cannot: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def environment(self) -> dict[str, str]:
        """Without what would lead another's interpreter to our `docket`."""
        foreign = ("DOCKET_",) if self.name in ("ours", "floor") else ("DOCKET_", "PYTHONPATH")
        return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}

    def environment_for(self, url: str, folder: Path, count: int, concurrency: int = 10) -> dict[str, str]:
        """What a program is told about the run: where Redis is, where the marks go, how many tasks there are."""
        environment = self.environment
        path = os.pathsep.join(filter(None, (str(PROGRAMS), environment.get("PYTHONPATH"))))
        return environment | {
            FOLDER: str(folder),
            COUNT: str(count),
            "DOCKET_BENCH_URL": url,
            "DOCKET_BENCH_CONCURRENCY": str(concurrency),
            "PYTHONPATH": path,
        }

    def task(self, name: str) -> str:
        """What it has for this task."""
        return name

    def ask(self, url: str, folder: Path, role: str, **config: Any) -> dict[str, Any]:
        """What a client answers once it has done its part."""
        with Player(self, url, folder, role, **config) as player:
            return player.answer()


OURS = Contestant("ours", sys.executable, settings="as the command line has it")
FLOOR = Contestant(
    "floor",
    sys.executable,
    program="floor.py",
    settings="XREADGROUP COUNT 100, call, XACK and XDEL with the next read; uvloop, hiredis; no state or results",
    cannot=dict.fromkeys(("rest", "compute", "due", "idle", "limits"), "the bare consumer has no such thing"),
)


def pydocket(*beside: str) -> Contestant:
    """`beside` are further packages that are to be there."""
    packages = ("pydocket==0.27.0", *beside)
    return Contestant(
        "pydocket",
        prepared("-".join(("pydocket", *beside)), packages),
        options="?max_connections=3000",
        share=0.3,
        packages=packages,
        settings="minimum_check_interval and scheduling_resolution 1 ms instead of 250 ms; max_connections 3000; "
        "sync work in asyncio.to_thread, as its users write it",
    )


def version_of(contestant: Contestant, package: str) -> str:
    script = f"from importlib.metadata import version; print(version({package!r}))"
    told = subprocess.run([contestant.python, "-c", script], capture_output=True, text=True, check=False)
    return told.stdout.strip() or "from the source tree"


class Player:
    """A process that plays one role; it ends with this context."""

    def __init__(self, contestant: Contestant, url: str, folder: Path, role: str, **config: Any) -> None:
        self._who = f"{contestant.name}, {role}"
        url += contestant.options
        config |= {"url": url, "role": role, "interval_ms": contestant.interval_ms}
        self._complaints = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 – closed with this context
        self._process = subprocess.Popen(
            [contestant.python, str(PROGRAMS / contestant.program), json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            env=contestant.environment_for(url, folder, config.get("count", 1)),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._complaints.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def answer(self, patience: float = 120.0) -> dict[str, Any]:
        assert self._process.stdout is not None
        watchdog = threading.Timer(patience, self._process.kill)
        watchdog.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            raise Broken(
                f"{self._who}: ended with {self._process.wait(5)} and gave no answer{self._complaint()}"
            )
        return json.loads(line)

    def _complaint(self) -> str:
        """The last line of what it wrote to stderr: of a traceback, the one that says what it is."""
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").rstrip(" +-\n").splitlines()
        return f": {lines[-1].strip(' |+-')}" if lines else ""

    def tell(self) -> None:
        """The next line that it waits for."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
