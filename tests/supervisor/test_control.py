"""One line is asked, one is answered; nobody who connects can hold the supervisor up."""

from __future__ import annotations

import json
import os
import selectors
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from docket_supervisor import control, sockets
from docket_supervisor.caller import Failed, Wanted, ask
from docket_supervisor.codes import Verdict
from docket_supervisor.control import Accepted, Answer, Control, Refused
from docket_supervisor.estate import Guest, Reception
from docket_supervisor.taken import Taken
from tests.supervisor.service import eventually


class Served:
    """A control socket whose loop turns in a thread of its own; `outcome` is what those who wait are waiting for."""

    def __init__(self, path: str, former: Reception | None = None) -> None:
        self.asked: list[Mapping[str, Any]] = []
        self.gone_on_with: list[Mapping[str, Any]] = []
        self.outcome: str | None = None
        self.big = "x"
        self.control = Control(path, self.obey, self.go_on)
        if former is not None:
            self.control.adopt(former)
        self.control.claim()
        self._selector = selectors.DefaultSelector()
        self.control.open(self._selector)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def obey(self, request: Mapping[str, Any]) -> Answer:
        self.asked.append(request)
        match request.get("verb"):
            case "big":
                return Accepted(lambda: {"big": self.big})
            case "later":
                return Accepted(lambda: {"told": 1}, done=lambda: self.outcome)
            case _:
                return Refused("not that")

    def go_on(self, request: Mapping[str, Any]) -> Answer:
        self.gone_on_with.append(request)
        return Accepted(lambda: {"told": 2}, done=lambda: self.outcome)

    def left(self) -> Reception:
        """What the next program finds; nobody serves until there is one."""
        self._ended.set()
        self._thread.join()
        left = self.control.reception
        assert left is not None
        guests = tuple(replace(guest, descriptor=os.dup(guest.descriptor)) for guest in left.guests)
        handed_on = replace(left, listener=os.dup(left.listener), guests=guests)
        self.control.close()
        self._selector.close()
        return handed_on

    def _serve(self) -> None:
        while not self._ended.is_set():
            for key, _ in self._selector.select(0.01):
                key.data()
            self.control.turn(time.monotonic())

    def close(self, code: int = 0) -> None:
        self._ended.set()
        self._thread.join()
        self.control.release(code)
        self._selector.close()


@pytest.fixture
def path(short_folder: Path) -> str:
    return str(short_folder / "control.sock")


@pytest.fixture
def served(path: str) -> Iterator[Served]:
    served = Served(path)
    yield served
    served.close()


def test_only_its_user_may_connect(served: Served, path: str) -> None:
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_what_is_accepted_is_answered_with_what_there_is_to_tell(served: Served, path: str) -> None:
    served.big = "x" * 3_000_000
    assert ask(Wanted(path), "big", to=3) == {"ok": True, "big": served.big}
    assert served.asked == [{"verb": "big", "wait": False, "to": 3}]


def test_what_is_refused_is_told_with_the_reason(served: Served, path: str) -> None:
    with pytest.raises(Failed, match="not that") as refused:
        ask(Wanted(path), "dance")
    assert refused.value.verdict is Verdict.REFUSED


def test_who_does_not_wait_is_answered_on_acceptance(served: Served, path: str) -> None:
    assert ask(Wanted(path), "later") == {"ok": True, "told": 1}


@pytest.mark.parametrize("outcome", ["", "it was undone"])
def test_who_waits_is_answered_when_it_is_done_or_never_will_be(
    served: Served, path: str, outcome: str
) -> None:
    answers: list[Any] = []

    def wait() -> None:
        try:
            answers.append(ask(Wanted(path), "later", wait=True))
        except Failed as failed:
            answers.append(str(failed))

    waiting = threading.Thread(target=wait)
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive() and not answers
    served.outcome = outcome
    waiting.join(5)
    assert answers == [outcome or {"ok": True, "told": 1}]


def test_who_waits_to_the_end_is_told_the_exit_code(path: str) -> None:
    served = Served(path)
    with sockets.connected(path) or socket.socket() as connection:
        connection.sendall(b'{"verb": "later", "wait": true}\n')
        while not served.asked:
            time.sleep(0.005)
        served.close(7)
        told = json.loads(connection.makefile().readline())
    assert told == {"ok": True, "pid": os.getpid(), "exit_code": 7}
    assert not os.path.exists(path)


@pytest.mark.parametrize("line", [b"hello\n", b"[]\n", b"\xff\n", b'"status"\n'])
def test_what_is_no_request_is_refused(served: Served, path: str, line: bytes) -> None:
    with sockets.connected(path) or socket.socket() as connection:
        connection.sendall(line)
        told = json.loads(connection.makefile().readline())
    assert told == {"ok": False, "reason": "expected one line with a JSON object"}


def test_one_who_says_nothing_or_too_much_or_leaves_holds_nobody_up(
    served: Served, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_PATIENCE", 0.2)
    silent, gone, endless = (sockets.connected(path) or socket.socket() for _ in range(3))
    gone.sendall(b'{"verb": "la')
    gone.close()
    with pytest.raises(OSError):
        for _ in range(100):
            endless.sendall(b"x" * 65536)
    assert ask(Wanted(path), "later")["ok"]
    assert silent.recv(1) == b"", "it has had its time"
    silent.close()
    endless.close()


def test_one_who_does_not_read_holds_nobody_up(served: Served, path: str) -> None:
    served.big = "x" * 10_000_000
    with sockets.connected(path) or socket.socket() as deaf:
        deaf.sendall(b'{"verb": "big"}\n')
        assert ask(Wanted(path), "later")["ok"]


def test_a_socket_on_which_somebody_listens_is_taken(served: Served, path: str) -> None:
    with pytest.raises(Taken, match="in use by a supervisor that is running"):
        Control(path, served.obey).claim()
    assert ask(Wanted(path), "later")["ok"]


def test_a_socket_whose_supervisor_was_killed_is_free(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    served = Served(path)
    assert ask(Wanted(path), "later")["ok"]
    served.close()


def heard_by(served: Served, count: int) -> None:
    """So many have connected, and what they have written was read."""
    eventually(lambda: len([each for each in conversations(served) if each.heard]) == count)


def conversations(served: Served) -> tuple[Guest, ...]:
    reception = served.control.reception
    return () if reception is None else reception.guests


def test_who_speaks_while_there_is_no_program_is_answered_by_the_next(path: str) -> None:
    first = Served(path)
    with (
        sockets.connected(path) or socket.socket() as early,
        sockets.connected(path) or socket.socket() as half,
    ):
        half.sendall(b'{"verb": ')
        heard_by(first, 1)
        eventually(lambda: len(conversations(first)) == 2)
        left = first.left()
        half.sendall(b'"later"}\n')
        early.sendall(b'{"verb": "later"}\n')
        with sockets.connected(path) or socket.socket() as late:
            late.sendall(b'{"verb": "later"}\n')
            second = Served("elsewhere", left)
            for each in (early, half, late):
                assert json.loads(each.makefile().readline()) == {"ok": True, "told": 1}
    assert len(second.asked) == 3 and second.gone_on_with == [] and first.asked == []
    second.close()
    assert not os.path.exists(path) and not os.path.exists("elsewhere")


def test_who_waits_goes_on_waiting_and_nothing_is_ordered_twice(path: str) -> None:
    first = Served(path)
    with sockets.connected(path) or socket.socket() as waiting:
        waiting.sendall(b'{"verb": "later", "wait": true}\n')
        eventually(lambda: first.asked)
        second = Served(path, first.left())
        eventually(lambda: second.gone_on_with)
        second.outcome = ""
        assert json.loads(waiting.makefile().readline()) == {"ok": True, "told": 2}
    assert second.asked == [] and second.gone_on_with == first.asked
    second.close()


def test_an_answer_is_handed_out_to_its_end_by_the_next_program(path: str) -> None:
    first = Served(path)
    first.big = "x" * 10_000_000
    with sockets.connected(path) or socket.socket() as slow:
        slow.sendall(b'{"verb": "big"}\n')
        eventually(lambda: first.asked)
        second = Served(path, first.left())
        assert json.loads(slow.makefile().readline())["big"] == first.big
    assert second.asked == second.gone_on_with == []
    second.close()


def test_a_socket_that_was_removed_is_made_anew_by_the_next_program(path: str) -> None:
    first = Served(path)
    os.unlink(path)
    second = Served(path, first.left())
    assert ask(Wanted(path), "later")["ok"]
    second.close()


def test_a_socket_that_has_become_somebody_elses_is_taken_and_left_alone(path: str) -> None:
    first = Served(path)
    os.unlink(path)
    other = Served(path)
    left = first.left()
    with pytest.raises(Taken, match="in use by a supervisor that is running"):
        Served(path, left)
    third = Control(path, other.obey)
    third.adopt(replace(left, listener=socket.socket(socket.AF_UNIX).detach(), guests=()))
    third.release(0)
    assert ask(Wanted(path), "later")["ok"]
    other.close()


def test_something_else_at_that_path_is_told_and_left_alone(path: str) -> None:
    Path(path).write_text("precious")
    with pytest.raises(Taken, match="something that is no socket"):
        Control(path, lambda request: Refused("")).claim()
    assert Path(path).read_text() == "precious"


def test_a_path_too_long_for_the_kernel_is_none_for_us(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    path = str(folder / "control.sock")
    assert len(path) > 108
    served = Served(path)
    assert ask(Wanted(path), "later")["ok"]
    served.close()
    assert list(folder.iterdir()) == []


class TestFinding:
    @pytest.fixture(autouse=True)
    def runtime_folder(self, short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        runtime, temporary = short_folder / "run", short_folder / "tmp"
        runtime.mkdir()
        temporary.mkdir()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
        monkeypatch.setattr("tempfile.gettempdir", lambda: str(temporary))

    @pytest.fixture
    def serve(self) -> Iterator[Callable[[str], Served]]:
        started: list[Served] = []

        def serve(path: str) -> Served:
            started.append(Served(path))
            return started[-1]

        yield serve
        for each in started:
            each.close()

    def test_the_default_path_names_docket_and_process(self, short_folder: Path) -> None:
        assert sockets.default_path("orders", 41) == str(short_folder / "run" / "docket-orders-41.sock")
        assert sockets.default_path("a/b c", 41).endswith("/docket-a_b_c-41.sock")

    def test_without_a_runtime_folder_it_is_among_the_temporary_files(
        self, short_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        assert sockets.default_path("orders", 41) == str(short_folder / "tmp" / "docket-orders-41.sock")

    def test_the_only_supervisor_need_not_be_named(
        self, serve: Callable[[str], Served], short_folder: Path
    ) -> None:
        serve(str(short_folder / "tmp" / "docket-orders-41.sock"))
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(short_folder / "run" / "docket-orders-40.sock"))
        assert ask(Wanted(), "later")["ok"]

    def test_of_several_one_must_be_named(self, serve: Callable[[str], Served], short_folder: Path) -> None:
        orders, mails, more = (
            serve(str(short_folder / "run" / f"docket-{name}.sock"))
            for name in ("orders-41", "mail-42", "mail-43")
        )
        with pytest.raises(
            Failed, match=r"several supervisors run; say which with --docket, --pid"
        ) as failed:
            ask(Wanted(), "later")
        assert failed.value.verdict is Verdict.REFUSED and "docket-mail-43.sock" in str(failed.value)
        ask(Wanted(docket="orders"), "later")
        ask(Wanted(docket="mail", pid=43), "later")
        ask(Wanted(pid=42), "later")
        assert [len(each.asked) for each in (orders, mails, more)] == [1, 1, 1]

    def test_nobody_there_is_an_exit_code_of_its_own(self, short_folder: Path) -> None:
        for wanted in (Wanted(), Wanted(docket="x"), Wanted(pid=1), Wanted(str(short_folder / "nothing"))):
            with pytest.raises(Failed) as failed:
                ask(wanted, "status")
            assert failed.value.verdict is Verdict.NOBODY

    def test_what_killed_supervisors_left_behind_is_removed(self, short_folder: Path) -> None:
        left, living, other = (
            short_folder / "run" / name
            for name in ("docket-orders-99999999.sock", f"docket-orders-{os.getpid()}.sock", "else.sock")
        )
        for path in (left, living, other):
            path.touch()
        sockets.sweep()
        assert (left.exists(), living.exists(), other.exists()) == (False, True, True)
