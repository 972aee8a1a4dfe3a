"""Real supervisors on a real Redis, and the evidence that their tasks write."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.processes.evidence import VARIABLE
from tests.supervisor.service import ROOT, eventually, gone, source_path

__all__ = ["Evidence", "Supervisor", "eventually", "gone"]

PATIENCE = 15.0


class Evidence:
    """What tasks have written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self, event: str = "", key: str = "") -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        # What follows the last line's end is being written just now.
        whole = self.path.read_text().rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.splitlines()]
        return [line for line in lines if event in ("", line["event"]) and (not key or line["key"] == key)]

    def began(self, key: str) -> list[dict[str, Any]]:
        return self.lines("began", key)

    def ended(self, key: str) -> list[dict[str, Any]]:
        return self.lines("ended", key)

    def ran_once(self, key: str) -> bool:
        return len(self.began(key)) == 1 and len(self.ended(key)) == 1

    def running_in(self, key: str, times: int = 1) -> int:
        """The pid in which it began for the n-th time, as soon as it has."""
        return eventually(lambda: self.began(key)[times - 1 : times], f"run {times} of {key}")[0]["pid"]


class Supervisor:
    """`docket-supervise` in a process of its own."""

    def __init__(
        self,
        url: str,
        docket: str,
        evidence: Evidence,
        log: Path,
        *options: str,
        through: Sequence[str] = (),
        tasks: str = "tests.processes.evidence:tasks",
        **variables: str,
    ) -> None:
        """`through` is a program that runs another one."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DOCKET_")}
        self.log_path = log
        self.environment = {
            **inherited,
            "PYTHONPATH": source_path(),
            VARIABLE: str(evidence.path),
            "XDG_RUNTIME_DIR": str(log.parent),
            **variables,
        }
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    *(*through, sys.executable, "-m", "docket_supervisor"),
                    *(("--url", url) if url else ()),
                    *("--docket", docket, "--log-level", "DEBUG", "--log-format", "plain"),
                    *("--tasks", tasks, "--app-dir", str(ROOT)),
                    *options,
                ],
                stderr=output,
                stdout=output,
                stdin=subprocess.DEVNULL,
                env=self.environment,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def logged(self, text: str, patience: float = PATIENCE) -> None:
        eventually(lambda: text in self.log(), f"{text!r} in the log", patience)

    def ready(self) -> None:
        """All of its workers are."""
        eventually(lambda: "workers are ready" in self.log(), f"ready\n{self.log()}")

    def titled(self, word: str) -> list[int]:
        """The pids of its processes with this word in their title."""
        found: list[int] = []
        for child in psutil.Process(self.pid).children():
            try:
                if f"docket: {word} " in " ".join(child.cmdline()):
                    found.append(child.pid)
            except psutil.Error:
                continue
        return found

    def titles(self, word: str) -> list[str]:
        return [" ".join(psutil.Process(pid).cmdline()).strip() for pid in self.titled(word)]

    def everybody(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]

    def told(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command of `docket-supervise` for this one."""
        return subprocess.run(
            [sys.executable, "-m", "docket_supervisor", *command],
            capture_output=True,
            text=True,
            # Other people's supervisors may have their sockets among the temporary files.
            env={**self.environment, "COLUMNS": "200", "TMPDIR": str(self.log_path.parent)},
            timeout=PATIENCE,
        )

    def port(self) -> int:
        """Where it answers for its health; started with `--health-port 0`."""
        self.logged("health answers at ")
        return int(self.log().partition("health answers at http://127.0.0.1:")[2].split()[0])

    def asked(self, path: str) -> tuple[int, str]:
        """Status and body."""
        connection = HTTPConnection("127.0.0.1", self.port(), timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def answers(self, path: str, status: int, patience: float = PATIENCE) -> None:
        """Sooner or later."""
        eventually(lambda: self.asked(path)[0] == status, f"{status} at {path}", patience)

    def metric(self, name: str, **labels: str) -> float:
        """The value of one sample, or the sum of those that have these labels."""
        families = text_string_to_metric_families(self.asked("/metrics")[1])
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ends(self, patience: float = PATIENCE) -> int:
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end within {patience:g}s\n{self.log()}") from None

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.ends()

    def close(self) -> None:
        if self.process.poll() is None:
            for pid in self.everybody():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.process.kill()
            self.process.wait()
