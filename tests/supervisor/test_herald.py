"""What systemd is told, datagram by datagram."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from docket_supervisor.herald import Herald

Lines = dict[str, str]


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self) -> list[Lines]:
        """Since the last time."""
        found: list[Lines] = []
        while True:
            try:
                message = self.socket.recv(65536).decode()
            except BlockingIOError:
                return found
            found.append(dict(line.split("=", 1) for line in message.split("\n")))


@pytest.fixture
def systemd(short_folder: Path) -> Iterator[Systemd]:
    systemd = Systemd(str(short_folder / "notify"))
    yield systemd
    systemd.socket.close()


def herald(systemd: Systemd, pid: int = 0, **variables: str) -> Herald:
    return Herald(lambda: "2 of 2 ready", {"NOTIFY_SOCKET": systemd.socket.getsockname(), **variables}, pid)


def test_ready_is_told_with_how_the_service_stands(systemd: Systemd) -> None:
    herald(systemd).ready()
    assert systemd.heard() == [{"READY": "1", "STATUS": "2 of 2 ready"}]


def test_reloading_carries_the_moment_on_the_monotonic_clock_and_ready_follows(systemd: Systemd) -> None:
    ours = herald(systemd)
    before = time.monotonic() * 1e6
    ours.reloading()
    ours.reloaded("")
    reloading, ready = systemd.heard()
    assert reloading["RELOADING"] == "1"
    assert before - 1 <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic() * 1e6 + 1
    assert ready == {"READY": "1", "STATUS": "2 of 2 ready"}


def test_a_failed_reload_is_ready_too_and_says_why(systemd: Systemd) -> None:
    herald(systemd).reloaded("the canary\ndied")
    assert systemd.heard() == [{"READY": "1", "STATUS": "rolling restart undone: the canary died"}]


def test_a_new_program_in_the_same_process_names_its_pid(systemd: Systemd) -> None:
    herald(systemd).reexecuted()
    (told,) = systemd.heard()
    assert (told["MAINPID"], told["READY"]) == (str(os.getpid()), "1")


def test_stopping_is_told(systemd: Systemd) -> None:
    herald(systemd).stopping()
    assert systemd.heard()[0]["STOPPING"] == "1"


def test_a_moment_that_finds_no_room_is_told_as_soon_as_there_is_some(systemd: Systemd) -> None:
    ours = herald(systemd)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as somebody:
        somebody.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                somebody.sendto(b"STATUS=chatter", systemd.socket.getsockname())
    now = time.monotonic()
    ours.ready()
    ours.stopping()
    assert ours.turn(now, progressing=False, healthy=True) <= now + 0.1
    assert all(told == {"STATUS": "chatter"} for told in systemd.heard())
    assert ours.turn(now + 0.1, progressing=False, healthy=True) > now + 0.1
    assert [next(iter(told)) for told in systemd.heard()] == ["READY", "STOPPING"]


def test_an_abstract_address_begins_with_an_at_sign() -> None:
    name = f"docket-test-{os.getpid()}"
    systemd = Systemd("\0" + name)
    Herald(lambda: "", {"NOTIFY_SOCKET": "@" + name}).ready()
    assert systemd.heard()[0]["READY"] == "1"
    systemd.socket.close()


def test_status_follows_every_few_seconds_whether_it_has_changed_or_not(systemd: Systemd) -> None:
    told = ["one"]
    ours = Herald(lambda: told[0], {"NOTIFY_SOCKET": systemd.socket.getsockname()})
    for now in (0.0, 1.0, 5.0, 6.0):
        ours.turn(now, progressing=False, healthy=True)
    assert systemd.heard() == [{"STATUS": "one"}] * 2
    told[0] = "two"
    assert ours.turn(9.9, progressing=False, healthy=True) == 10.0
    assert systemd.heard() == []
    assert ours.turn(10.5, progressing=False, healthy=True) == 15.5
    assert systemd.heard() == [{"STATUS": "two"}]


def test_more_time_is_asked_for_while_a_start_or_a_drain_makes_progress(systemd: Systemd) -> None:
    ours = herald(systemd)
    for now in (0.0, 5.0, 10.0):
        ours.turn(now, progressing=now < 10.0, healthy=True)
    extensions = [
        int(told["EXTEND_TIMEOUT_USEC"]) for told in systemd.heard() if "EXTEND_TIMEOUT_USEC" in told
    ]
    assert extensions == [15_000_000, 15_000_000]


class TestWatchdog:
    def pings(self, systemd: Systemd, ours: Herald, *, healthy: bool = True) -> int:
        fed = 0
        for tenth in range(100):
            ours.turn(tenth / 10, progressing=False, healthy=healthy)
            fed += sum("WATCHDOG" in told for told in systemd.heard())
        return fed

    def test_it_is_fed_three_times_as_often_as_it_must_be(self, systemd: Systemd) -> None:
        assert self.pings(systemd, herald(systemd, WATCHDOG_USEC="3000000")) == 10

    def test_it_is_not_fed_while_a_worker_is_past_its_limit(self, systemd: Systemd) -> None:
        assert self.pings(systemd, herald(systemd, WATCHDOG_USEC="3000000"), healthy=False) == 0

    @pytest.mark.parametrize(("meant", "expected"), [("41", 10), ("42", 0)])
    def test_it_is_fed_by_the_process_that_is_meant(
        self, systemd: Systemd, meant: str, expected: int
    ) -> None:
        ours = herald(systemd, pid=41, WATCHDOG_USEC="3000000", WATCHDOG_PID=meant)
        assert self.pings(systemd, ours) == expected

    def test_without_one_nothing_is_fed(self, systemd: Systemd) -> None:
        assert self.pings(systemd, herald(systemd)) == 0


def test_without_systemd_nothing_is_said_and_nobody_woken() -> None:
    ours = Herald(lambda: "", {})
    ours.ready()
    assert ours.turn(0.0, progressing=True, healthy=True) == float("inf")


def test_a_systemd_that_has_gone_does_no_harm(systemd: Systemd, short_folder: Path) -> None:
    ours = herald(systemd)
    systemd.socket.close()
    (short_folder / "notify").unlink()
    ours.ready()
    ours.turn(0.0, progressing=True, healthy=True)
