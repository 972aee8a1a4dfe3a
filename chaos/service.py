"""A service under test: `docket-supervise` in a process of its own, and what can be done to its processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from chaos.witness import SERVICE_VARIABLE, VARIABLE
from docket import clock

HERE = Path(__file__).resolve().parents[1]


class Broken(Exception):
    """The experiment cannot go on; the message says why."""


class Service:
    """Started when it is made, ready when `has_started`. Everything it says is in `log`."""

    def __init__(
        self, url: str, docket: str, folder: Path, *options: str, number: int = 1, **variables: str
    ) -> None:
        self.number = number
        self.log = folder / f"service-{number}.log"
        self.witness = folder / "witness"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DOCKET_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "docket_supervisor", "--url", url, "--docket", docket),
                    *("--tasks", "chaos.workload:tasks", "--app-dir", str(HERE), "--health-port", "0"),
                    *("--log-format", "plain", *options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**inherited, **variables, VARIABLE: str(self.witness), SERVICE_VARIABLE: str(number)},
                start_new_session=True,  # ^C is for whoever experiments
            )
        self._port = 0

    @property
    def pid(self) -> int:
        return self.process.pid

    def pids(self, kind: str) -> list[int]:
        """Of its worker, quarantine, steward or template processes."""
        return [process.pid for process in self.children() if f"docket: {kind} " in _title(process)]

    def has_started(self) -> bool:
        """All of its workers became ready once."""
        return self.ask("/startup")[0] == 200

    def send(self, pid: int, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    def ask(self, path: str) -> tuple[int, str]:
        """Status and body; 0 while nobody answers."""
        if not self._port:
            text = self.log.read_text(errors="replace")
            self._port = int(text.partition("health answers at http://127.0.0.1:")[2].partition("\n")[0] or 0)
        connection = HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, HTTPException):
            return 0, ""
        finally:
            connection.close()

    def wait_for(self, path: str, seconds: float) -> None:
        give_up_at = clock.monotonic() + seconds
        while self.ask(path)[0] != 200:
            if (code := self.process.poll()) is not None:
                raise Broken(f"the service has ended with {code}; see {self.log}")
            if clock.monotonic() > give_up_at:
                raise Broken(f"{path} was not 200 within {seconds:g}s; see {self.log}")
            time.sleep(0.05)

    def counters(self) -> Mapping[str, float]:
        """`docket_tasks_…_total` over all tasks, by the word in the middle."""
        self.wait_for("/metrics", 10)
        counters: dict[str, float] = {}
        for family in text_string_to_metric_families(self.ask("/metrics")[1]):
            for sample in family.samples:
                if sample.name.startswith("docket_tasks_") and sample.name.endswith("_total"):
                    name = sample.name.removeprefix("docket_tasks_").removesuffix("_total")
                    counters[name] = counters.get(name, 0) + sample.value
        return counters

    def stop(self, seconds: float = 30) -> int:
        """Its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Broken(f"the service has not left {seconds:g}s after TERM; see {self.log}") from None

    def close(self) -> None:
        """Nothing of it is left, whatever state it is in."""
        for process in (*self.children(), self.process):
            with suppress(psutil.Error, ProcessLookupError):
                process.kill()
        self.process.wait()

    def children(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            return psutil.Process(self.pid).children(recursive=True)
        return []


def _title(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""
