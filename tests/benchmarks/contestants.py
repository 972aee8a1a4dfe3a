"""Who is measured: an interpreter, a program, and the settings that make it fast."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.benchmarks.programs.marks import COUNT, FOLDER

PROGRAMS = Path(__file__).parent / "programs"
REPOSITORY = Path(__file__).parents[2]
CACHE = REPOSITORY / ".bench"


class Broken(Exception):
    """A measurement is worth nothing; the message says why."""


@dataclass(frozen=True)
class Contestant:
    """`interval_ms`: pydocket looks for work this often at most; a short one makes it fast, and its idling dear.
    `options`: of the URL; by default redis-py's pool refuses pydocket its 101st connection."""

    name: str
    python: str
    program: str = "contestant.py"
    options: str = ""
    interval_ms: int = 1

    @property
    def environment(self) -> dict[str, str]:
        """Without what would lead pydocket's interpreter to our `docket`."""
        foreign = ("DOCKET_",) if self.name == "ours" else ("DOCKET_", "PYTHONPATH")
        return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}

    def ask(self, url: str, folder: Path, role: str, **config: Any) -> dict[str, Any]:
        """What a client answers once it has done its part."""
        with Player(self, url, folder, role, **config) as player:
            return player.answer()


OURS = Contestant("ours", sys.executable)
FLOOR = Contestant("floor", sys.executable, program="floor.py")


def pydocket(*beside: str) -> Contestant:
    """In an environment of its own, which is made once; `beside` are further packages that are to be there."""
    folder = CACHE / "-".join(("pydocket", *beside))
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists():
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], [*pip, "pydocket", *beside]):
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
            )
            if done.returncode:
                raise Broken(f"pydocket cannot be installed:\n{done.stdout[-2000:]}")
        ready.touch()
    return Contestant("pydocket", str(python), options="?max_connections=3000")


def version_of(contestant: Contestant, package: str) -> str:
    script = f"from importlib.metadata import version; print(version({package!r}))"
    told = subprocess.run([contestant.python, "-c", script], capture_output=True, text=True, check=False)
    return told.stdout.strip() or "from the source tree"


class Player:
    """A process that plays one role; it ends with this context."""

    def __init__(self, contestant: Contestant, url: str, folder: Path, role: str, **config: Any) -> None:
        self._who = f"{contestant.name}, {role}"
        config |= {"url": url + contestant.options, "role": role, "interval_ms": contestant.interval_ms}
        count = config.get("count", 1)
        self._process = subprocess.Popen(
            [contestant.python, str(PROGRAMS / contestant.program), json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**contestant.environment, FOLDER: str(folder), COUNT: str(count)},
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
            raise Broken(f"{self._who}: ended with {self._process.wait(5)} and gave no answer")
        return json.loads(line)

    def tell(self) -> None:
        """The next line that it waits for."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
