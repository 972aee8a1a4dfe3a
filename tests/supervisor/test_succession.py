"""USR2 with real processes: the supervisor becomes another program, and its children do not notice."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from docket_supervisor import estate, sockets
from docket_supervisor.caller import Wanted, ask
from docket_supervisor.estate import Estate, Guest, Occupant, Reception, inherited, write
from docket_supervisor.layout import layout
from docket_supervisor.settings import SupervisorSettings
from docket_supervisor.signals import Signals
from docket_supervisor.succession import Succession
from tests.supervisor.service import Service, eventually, gone
from tests.supervisor.test_rolling import generations, reloaded

Start = Callable[..., Service]


@pytest.fixture
def usual() -> dict[str, Any]:
    return {"canary": 0.2}


def left(service: Service) -> None:
    service.signal(signal.SIGTERM)
    assert service.ends() == 0, service.log()


def went_on(service: Service, times: int = 1) -> None:
    eventually(
        lambda: service.log().count("goes on with docket") == times,
        lambda: f"re-executed\n{service.log()}\nwhich",
    )


def test_another_program_in_the_same_process_goes_on_with_the_same_workers_and_then_replaces_them(
    start: Start, preload: bool
) -> None:
    service = start(processes=3, preload=preload, canary=2)
    pid, old = service.process.pid, service.ready(3)
    began = Path(f"/proc/{pid}/stat").read_text().split()[21]
    service.signal(signal.SIGUSR2)
    went_on(service)
    assert not any(gone(each) for each in old)
    assert {each.pid for each in psutil.Process(pid).children()} >= set(old)
    assert Path(f"/proc/{pid}/stat").read_text().split()[21] == began, "it is the same process"
    reloaded(service)
    assert all(gone(each) for each in old)
    expected = [
        "docket: steward stand-in",
        *(["docket: template stand-in"] if preload else []),
        *(f"docket: worker stand-in [{slot}] gen 2 busy 0+0/10" for slot in range(3)),
    ]
    # Those who have just been told to leave have no title any more.
    eventually(
        lambda: [title for title in service.titles() if title and "spare" not in title] == expected,
        f"{service.titles()}",
    )
    assert service.events("handed over") == [] and service.events("orphaned") == []
    left(service)


def test_it_can_be_done_again(start: Start, preload: bool) -> None:
    service = start(processes=2, preload=preload)
    service.ready(2)
    for times in (1, 2):
        service.signal(signal.SIGUSR2)
        went_on(service, times)
        eventually(
            lambda times=times: f"generation {times + 1} is in service" in service.log(),
            lambda: f"another generation\n{service.log()}\nwhich",
        )
    assert generations(service) == [3, 3]
    left(service)


def test_workers_go_on_when_the_new_code_does_not_import(start: Start, tmp_path: Path) -> None:
    service = start(processes=2)
    old = service.ready(2)
    (tmp_path / "app_tasks.py").write_text("raise RuntimeError('half-deployed')\n")
    service.signal(signal.SIGUSR2)
    service.logged("reload undone, generation 1 stays in service")
    assert service.log().count("RuntimeError: half-deployed") == 1
    assert not any(gone(each) for each in old) and generations(service) == [1, 1]
    # The template of the former program serves still: a lost worker is replaced by one of the old code.
    os.kill(old[0], signal.SIGKILL)
    eventually(lambda: len(service.events("ready")) == 3)
    assert generations(service) == [1, 1]
    left(service)


def test_a_death_around_the_change_is_handed_over(start: Start) -> None:
    service = start(processes=2, canary=60)
    first, second = service.ready(2)
    service.obeyed(first, "begin key")
    service.obeyed(second, "begin other")
    service.signal(signal.SIGUSR2)
    service.logged("re-executing, with")
    os.kill(first, signal.SIGKILL)
    went_on(service)
    os.kill(second, signal.SIGKILL)
    eventually(lambda: len(service.events("handed over")) == 2)
    orders = {order["id"]: order["started"] for order in service.events("handed over")}
    assert orders == {f"stand-in/{first}": ["d:0-0"], f"stand-in/{second}": ["d:0-0"]}
    eventually(lambda: len(generations(service)) == 3)
    left(service)


def test_a_signal_that_comes_while_there_is_no_program_to_hear_it_is_heard(start: Start) -> None:
    # The last that the former program tells; the next one listens after half a second.
    service = start(processes=2, canary=60, term_when_told="re-executing, with")
    service.ready(2)
    service.signal(signal.SIGUSR2)
    assert service.ends() == 0, service.log()
    assert "goes on with docket" in service.log() and "draining" in service.log()


def test_what_has_come_is_acted_upon_before_the_program_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals, coming = Signals([signal.SIGUSR1]), [signal.SIGUSR1]

    class Replaced(Exception): ...

    def settled() -> str:
        for number in coming:
            os.kill(os.getpid(), number)
        coming.clear()
        return ""

    def estate() -> Estate:
        raise Replaced

    succession = Succession(
        SupervisorSettings(app_dir=str(tmp_path)),
        closing=tuple,
        settled=settled,
        unheard=signals.waiting,
        estate=estate,
    )
    monkeypatch.setattr(succession, "_agreed", True)
    try:
        assert succession.turn(5) == 5
        assert signals.receive() == [signal.SIGUSR1]
        with pytest.raises(Replaced):
            succession.turn(6)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    finally:
        signals.restore()


def test_who_asks_meanwhile_is_answered(start: Start, short_folder: Path) -> None:
    path = str(short_folder / "control.sock")
    service = start(processes=1, canary=60, control_socket=path)
    service.ready(1)
    answers: list[object] = []
    over = threading.Event()

    def go_on_asking() -> None:
        while not over.is_set():
            try:
                answers.append(ask(Wanted(path), "resume")["ok"])
            except Exception as error:
                answers.append(error)

    asking = threading.Thread(target=go_on_asking)
    asking.start()
    try:
        service.signal(signal.SIGUSR2)
        went_on(service)
        so_far = len(answers)
        eventually(lambda: len(answers) > so_far + 10)
    finally:
        over.set()
        asking.join()
    assert set(answers) == {True}
    left(service)


def test_who_has_connected_before_is_answered_after(start: Start, short_folder: Path) -> None:
    path = str(short_folder / "control.sock")
    service = start(processes=1, canary=60, control_socket=path)
    service.ready(1)
    with sockets.connected(path) or socket.socket() as connection:
        connection.sendall(b'{"verb": ')
        service.signal(signal.SIGUSR2)
        went_on(service)
        connection.sendall(b'"stop"}\n')
        assert connection.makefile().readline() == '{"ok": true}\n'
    assert service.ends() == 0


def test_who_waits_is_answered_by_the_next_program(start: Start, short_folder: Path) -> None:
    path = str(short_folder / "control.sock")
    service = start(processes=2, min_processes=1, canary=60, control_socket=path)
    for pid in service.ready(2):
        service.obeyed(pid, "begin key")
    answers: list[object] = []
    waiting = threading.Thread(target=lambda: answers.append(ask(Wanted(path), "scale", to=1, wait=True)))
    waiting.start()
    service.logged("scaling from 2 to 1")
    service.signal(signal.SIGUSR2)
    went_on(service)
    assert answers == []
    for pid in service.ready(2):
        service.order(pid, "settle")
        eventually(lambda pid=pid: not (service.folder / f"do-{pid}").exists())
    waiting.join(15)
    assert answers == [{"ok": True}]
    assert service.log().count("scaling from 2 to 1") == 1
    left(service)


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="only Linux limits other processes")
def test_a_supervisor_that_finds_no_descriptors_stays_as_it_is(start: Start) -> None:
    service = start(processes=1)
    (old,) = service.ready(1)
    supervisor = psutil.Process(service.process.pid)
    before = supervisor.rlimit(psutil.RLIMIT_NOFILE)
    supervisor.rlimit(psutil.RLIMIT_NOFILE, (3, before[1]))
    service.signal(signal.SIGUSR2)
    service.logged("not re-executing: could not fork: [Errno 24]")
    supervisor.rlimit(psutil.RLIMIT_NOFILE, before)
    assert not gone(old)
    service.signal(signal.SIGUSR2)
    went_on(service)
    left(service)


def test_work_that_runs_is_finished_by_who_runs_it(start: Start, preload: bool) -> None:
    service = start(processes=1, preload=preload)
    (pid,) = service.ready(1)
    service.obeyed(pid, "begin key")
    service.signal(signal.SIGUSR2)
    eventually(lambda: generations(service) == [1, 2])
    assert not gone(pid)
    service.obeyed(pid, "settle")
    reloaded(service)
    assert gone(pid) and service.events("handed over") == []
    left(service)


def test_the_lifeline_holds_and_still_ends_with_the_supervisor(start: Start, preload: bool) -> None:
    service = start(processes=2, preload=preload, canary=60)
    old = service.ready(2)
    service.signal(signal.SIGUSR2)
    went_on(service)
    eventually(lambda: len(generations(service)) == 3)
    assert service.events("orphaned") == []
    everybody = [child.pid for child in service.children()]
    service.signal(signal.SIGKILL)
    eventually(lambda: {event["pid"] for event in service.events("orphaned")} >= set(old))
    eventually(lambda: all(gone(pid) for pid in everybody), "everybody has left")


def test_a_program_that_does_not_start_is_not_put_in_our_place(start: Start, tmp_path: Path) -> None:
    service = start(processes=2, boot_timeout=5)
    old = service.ready(2)
    # Its options make no sense any more.
    (tmp_path / "app_tasks.py").unlink()
    tmp_path.rename(tmp_path.with_name("moved"))
    try:
        service.signal(signal.SIGUSR2)
        eventually(
            lambda: "not re-executing: the new program exited with status" in moved_log(tmp_path),
        )
        assert not any(gone(pid) for pid in old) and service.process.poll() is None
    finally:
        tmp_path.with_name("moved").rename(tmp_path)
    left(service)


def moved_log(folder: Path) -> str:
    return (folder.with_name("moved") / "log").read_text()


def test_it_waits_for_a_reload_to_end(start: Start) -> None:
    service = start(processes=2, canary=4)  # longer than it takes to ask the new program
    service.ready(2)
    service.signal(signal.SIGHUP)
    service.logged("tries it")
    service.signal(signal.SIGUSR2)
    service.logged("re-executing as soon as the reload has ended")
    service.logged("generation 2 is in service")
    went_on(service)
    service.logged("generation 3 is in service")
    left(service)


def test_a_service_that_leaves_is_not_put_into_other_hands(start: Start) -> None:
    service = start(processes=1)
    (pid,) = service.ready(1)
    service.obeyed(pid, "begin key")
    service.signal(signal.SIGTERM)
    service.logged("draining")
    service.signal(signal.SIGUSR2)
    service.obeyed(pid, "settle")
    assert service.ends() == 0
    assert "re-executing" not in service.log()


def test_a_slot_that_was_given_up_comes_back(start: Start) -> None:
    service = start(processes=2, max_restarts=0)
    _, second = service.ready(2)
    service.order(second, "exit 1")
    service.logged("giving up slot")
    service.signal(signal.SIGUSR2)
    reloaded(service)
    assert generations(service) == [2, 2]
    left(service)


def test_nothing_is_left_open_that_was_for_the_former_program(start: Start) -> None:
    service = start(processes=2)
    service.ready(2)
    eventually(lambda: re.search(r"spare \d+ is ready", service.log()))

    def descriptors() -> int:
        return psutil.Process(service.process.pid).num_fds()

    before = descriptors()
    for times in (1, 2, 3):
        service.signal(signal.SIGUSR2)
        went_on(service, times)
        eventually(
            lambda times=times: f"generation {times + 1} is in service" in service.log(),
            lambda: f"another generation\n{service.log()}\nwhich",
        )
        eventually(
            lambda times=times: len(re.findall(r"spare \d+ is ready", service.log())) == times + 1,
            lambda: f"another spare\n{service.log()}\nwhich",
        )
    eventually(lambda: descriptors() <= before, f"{descriptors()} instead of {before}")
    left(service)


ESTATE = Estate(
    layout="x",
    board=0,
    lifeline=(1, 2),
    notices=(0, 1),
    spool=(2,),
    entrance=None,
    reception=Reception("/x.sock", 1, (2, 3), (Guest(2, "\xff", ""),)),
    phase="RUNNING",
    started_at=1.5,
    wanted=2,
    by_hand=True,
    generation=3,
    occupants=(Occupant(0, "WORKER", 0, 3, "READY", 4711, 2.5, None),),
    steward={"pid": 1, "channel": 0, "numbered": 7, "orders": ["a"]},
    template=None,
    dead_workers=(5,),
)


def test_an_estate_is_read_as_it_was_written_and_once_only(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [os.get_inheritable(descriptor) for descriptor in (0, 1, 2)]
    monkeypatch.setenv("DOCKET_ESTATE", str(write(ESTATE)))
    try:
        assert inherited() == ESTATE
    finally:
        for descriptor, inheritable in enumerate(before):
            os.set_inheritable(descriptor, inheritable)
    assert inherited() is None


def test_two_programs_with_the_same_constants_understand_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SupervisorSettings(processes=2)
    assert layout(settings) == layout(SupervisorSettings(processes=2))
    assert layout(settings) != layout(SupervisorSettings(processes=3))
    ours = layout(settings)
    monkeypatch.setattr("docket_supervisor.board._TICKED_AT", 999)
    assert layout(settings) != ours


def test_a_program_that_leaves_other_things_behind_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Guest(estate.Guest):
        more: int

    settings = SupervisorSettings(processes=2)
    ours = layout(settings)
    monkeypatch.setattr("docket_supervisor.layout.Guest", Guest)
    assert layout(settings) != ours


def test_a_message_with_another_field_is_another_language(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SupervisorSettings(processes=2)
    ours = layout(settings)
    monkeypatch.setitem(__import__("docket_supervisor.messages").messages.KINDS, "Forked", Occupant)
    assert layout(settings) != ours


def test_a_board_is_the_same_memory_for_who_opens_its_file(tmp_path: Path) -> None:
    from docket_supervisor.board import Board

    board = Board(3, 4)
    board.seats[1].taken(4711)
    board.writer(1).enlisted("w/1")
    again = Board(3, 4, os.dup(board.file))
    assert (again.seats[1].pid, again.seats[1].worker_id) == (4711, "w/1")
    again.seats[1].drain_at = 7.0
    assert board.writer(1).drain_at == 7.0
