"""What the tests of the command line ask for: `docket` run as a user runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from docket.cli.program import app
from docket.sync import Docket
from tests.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
SOURCES = os.pathsep.join(str(ROOT / folder) for folder in ("tasks_sdk", "runtime", "supervisor"))

Answer = Callable[..., tuple[int, str, str]]
"""Called with the arguments; returns exit code, standard output, standard error."""


class Running:
    """`python -m docket …` in the background, its log in a file."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def says(self, text: str, within: float = 20) -> None:
        """Waits until the log holds this text."""
        give_up_at = time.monotonic() + within
        while text not in self.log:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < give_up_at, f"{text!r} is not in\n{self.log}"
            time.sleep(0.01)

    def ends(self, within: float = 20) -> int:
        return self.process.wait(within)

    def signalled(self, number: signal.Signals, within: float = 20) -> int:
        self.process.send_signal(number)
        return self.ends(within)


def variables(**more: str) -> dict[str, str]:
    """An environment in which nothing of docket is set but what is given here."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DOCKET_")}
    return {**inherited, "PYTHONPATH": SOURCES, **more}


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("DOCKET_") and name != "DOCKET_REDIS_SERVER":
            monkeypatch.delenv(name)


@pytest.fixture
def invoke() -> Answer:
    """In this process."""

    def invoked(*arguments: str, **environment: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, arguments, env=environment, prog_name="docket")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return invoked


@pytest.fixture
def ask(invoke: Answer, docket_name: str, redis_server: RedisServer) -> Answer:
    """In this process, of this test's docket."""

    def asked(*arguments: str, **environment: str) -> tuple[int, str, str]:
        return invoke(*arguments, DOCKET_NAME=docket_name, DOCKET_URL=redis_server.url, **environment)

    return asked


@pytest.fixture
def run(tmp_path: Path) -> Answer:
    """As `python -m docket` in a folder of its own."""

    def ran(*arguments: str, **environment: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "docket", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=variables(**environment),
            timeout=60,
        )
        return done.returncode, done.stdout, done.stderr

    return ran


@pytest.fixture
def start(tmp_path: Path, docket_name: str, redis_server: RedisServer) -> Iterator[Callable[..., Running]]:
    """Starts a command on this test's docket and leaves it running; what still runs at the end is killed."""
    started: list[Running] = []

    def begin(*arguments: str, **environment: str) -> Running:
        log = tmp_path / f"log-{len(started)}"
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "docket", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                text=True,
                cwd=tmp_path,
                env=variables(DOCKET_NAME=docket_name, DOCKET_URL=redis_server.url, **environment),
            )
        started.append(Running(process, log))
        return started[-1]

    yield begin
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


@pytest.fixture
def client(docket_name: str, redis_server: RedisServer) -> Iterator[Docket]:
    with Docket(name=docket_name, url=redis_server.url) as docket:
        yield docket


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A module of tasks in the folder where the commands are run."""
    module = tmp_path / "shop.py"
    module.write_text(
        """\
import time
from pathlib import Path
from docket.dependencies import Retry, TaskKey

def note(text):
    with open(Path(__file__).with_name("evidence"), "a") as evidence:
        evidence.write(text + "\\n")

async def ship(order: int, fast: bool = False, key: str = TaskKey(), retry: Retry = Retry(attempts=2)):
    note(f"shipped {order}")

def resize(path, *sizes: int, **more):
    note(f"resized {path}")

def hold(path):
    note("began")
    while not Path(path).exists():
        time.sleep(0.01)
    note("ended")

def stranger(*args, **kwargs):
    note(f"stranger {args} {kwargs}")

def generator():
    yield 1

tasks = [ship, resize, hold]
no_tasks = [generator]
"""
    )
    return module


@pytest.fixture
def evidence(shop: Path) -> Callable[[], list[str]]:
    """The lines that the tasks have written so far."""

    def lines() -> list[str]:
        path = shop.with_name("evidence")
        return path.read_text().splitlines() if path.exists() else []

    return lines
