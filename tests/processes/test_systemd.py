"""What systemd hears of a service from its start to its end: one datagram a message."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes.fleet import Evidence, Supervisor, eventually

Supervise = Callable[..., Supervisor]


class Systemd:
    """Remembers everything that it has been told."""

    def __init__(self, path: Path) -> None:
        self.variables = {"NOTIFY_SOCKET": str(path)}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self._heard: list[dict[str, str]] = []

    def heard(self, name: str) -> list[dict[str, str]]:
        """The messages that have such a line."""
        while True:
            try:
                message = self._socket.recv(65536).decode()
            except BlockingIOError:
                return [told for told in self._heard if name in told]
            self._heard.append(dict(line.split("=", 1) for line in message.split("\n")))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(short_folder: Path) -> Iterator[Systemd]:
    systemd = Systemd(short_folder / "notify")
    yield systemd
    systemd.close()


def test_ready_when_all_workers_are_and_stopping_when_they_are_to_leave(
    supervise: Supervise, systemd: Systemd
) -> None:
    supervisor = supervise("--processes", "3", **systemd.variables)
    (ready,) = eventually(lambda: systemd.heard("READY"))
    assert ready["STATUS"].startswith("3 of 3 workers ready, busy 0+0/30, ")
    assert systemd.heard("EXTEND_TIMEOUT_USEC"), "while it was starting"
    assert supervisor.stop() == 0
    assert len(systemd.heard("STOPPING")) == 1 and len(systemd.heard("READY")) == 1


def test_ready_when_the_minimum_is_ready(supervise: Supervise, systemd: Systemd, tmp_path: Path) -> None:
    """The second worker never becomes ready: its import waits for a file that the first one has seen."""
    (tmp_path / "slow_app.py").write_text(
        "import os, time\n"
        f"first = {str(tmp_path / 'first')!r}\n"
        "try:\n"
        "    os.close(os.open(first, os.O_CREAT | os.O_EXCL))\n"
        "except FileExistsError:\n"
        "    time.sleep(60)\n"
        "tasks = [print]\n"
    )
    supervisor = supervise(
        *("--processes", "2", "--min-ready", "1", "--no-preload"),
        *("--app-dir", str(tmp_path), "--tasks", "slow_app:tasks"),
        ready=False,
        **systemd.variables,
    )
    (ready,) = eventually(lambda: systemd.heard("READY"))
    assert ready["STATUS"].startswith("1 of 2 workers ready")
    supervisor.signal(signal.SIGQUIT)
    assert supervisor.ends() == 131


def test_more_time_is_asked_for_while_a_drain_goes_on(
    docket: Docket, supervise: Supervise, evidence: Evidence, systemd: Systemd, tmp_path: Path
) -> None:
    supervisor = supervise("--processes", "1", **systemd.variables)
    go = tmp_path / "go"
    docket.add(does.wait_for, key="running")(str(go))
    evidence.running_in("running")
    before = len(systemd.heard("EXTEND_TIMEOUT_USEC"))
    supervisor.signal(signal.SIGTERM)
    (stopping,) = eventually(lambda: systemd.heard("STOPPING"))
    assert "busy 1+0/10" in stopping["STATUS"]
    eventually(lambda: len(systemd.heard("EXTEND_TIMEOUT_USEC")) > before)
    go.touch()
    assert supervisor.ends() == 0


def test_the_watchdog_is_fed_by_the_supervisor_alone_and_not_when_its_loop_stands_still(
    supervise: Supervise, systemd: Systemd
) -> None:
    supervisor = supervise("--processes", "1", **systemd.variables, WATCHDOG_USEC="600000")
    eventually(lambda: len(systemd.heard("WATCHDOG")) >= 3)
    supervisor.signal(signal.SIGSTOP)
    stopped = time.monotonic()
    eventually(lambda: time.monotonic() - stopped > 0.3)
    fed = len(systemd.heard("WATCHDOG"))
    eventually(lambda: time.monotonic() - stopped > 1.5)
    assert len(systemd.heard("WATCHDOG")) == fed
    supervisor.signal(signal.SIGCONT)
    eventually(lambda: len(systemd.heard("WATCHDOG")) > fed)
    assert supervisor.stop() == 0


def test_a_patience_shorter_than_ours_is_told_at_the_start(supervise: Supervise) -> None:
    supervisor = supervise("--processes", "1", "--drain-timeout", "60s", "--stop-timeout", "60s", ready=False)
    assert supervisor.ends() == 2
    assert "expected --stop-timeout to be above 1m5s" in supervisor.log()


def test_the_url_is_read_from_a_credential(
    supervise: Supervise, url: str, docket: Docket, tmp_path: Path
) -> None:
    """Neither on the command line nor in the environment."""
    (tmp_path / "docket-url").write_text(url + "\n")
    supervisor = supervise("--processes", "1", url="", CREDENTIALS_DIRECTORY=str(tmp_path))
    assert url not in " ".join(Path(f"/proc/{supervisor.pid}/cmdline").read_text().split("\0"))
    assert docket.add(does.wait, key="there")(0.0).get_result()
    assert supervisor.stop() == 0
