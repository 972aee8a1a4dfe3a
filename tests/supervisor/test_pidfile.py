"""A pidfile names one living supervisor, or is free."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from docket_supervisor.pidfile import Pidfile
from docket_supervisor.taken import Taken


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "docket.pid"


def test_it_holds_our_pid_and_is_gone_afterwards(path: Path) -> None:
    pidfile = Pidfile(str(path))
    pidfile.claim()
    assert path.read_text() == f"{os.getpid()}\n"
    pidfile.release()
    assert not path.exists()


def test_one_that_is_held_is_taken_and_left_as_it_is(path: Path) -> None:
    first, second = Pidfile(str(path)), Pidfile(str(path))
    first.claim()
    with pytest.raises(Taken, match=f"held by process {os.getpid()}"):
        second.claim()
    second.release()
    assert path.read_text() == f"{os.getpid()}\n"
    first.release()
    second.claim()
    second.release()


def test_one_that_names_a_living_process_is_taken(path: Path) -> None:
    path.write_text(f"{os.getppid()}\n")
    with pytest.raises(Taken, match=f"names process {os.getppid()}, which is running"):
        Pidfile(str(path)).claim()
    assert path.read_text() == f"{os.getppid()}\n"


@pytest.mark.parametrize("left", ["", "  \n", f"{os.getpid()}\n"], ids=["empty", "blank", "our own pid"])
def test_one_that_names_nobody_else_is_free(path: Path, left: str) -> None:
    path.write_text(left)
    pidfile = Pidfile(str(path))
    pidfile.claim()
    assert path.read_text() == f"{os.getpid()}\n"
    pidfile.release()


def test_one_whose_process_has_died_is_free(path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path.write_text(f"{dead.pid} ")
    pidfile = Pidfile(str(path))
    pidfile.claim()
    pidfile.release()


@pytest.mark.parametrize("garbage", ["hello\n", "-1", "0", "12.5", "99999999999999999999", "\x00\xff"])
def test_garbage_is_told_and_not_overwritten(path: Path, garbage: str) -> None:
    path.write_text(garbage)
    with pytest.raises(Taken, match="expected a pid in the pidfile"):
        Pidfile(str(path)).claim()
    assert path.read_text() == garbage


def test_a_file_that_is_not_ours_any_more_is_left_alone(path: Path) -> None:
    pidfile = Pidfile(str(path))
    pidfile.claim()
    path.unlink()
    path.write_text("somebody else's")
    pidfile.release()
    assert path.read_text() == "somebody else's"


def test_a_forked_child_that_closes_it_does_not_keep_it(path: Path) -> None:
    pidfile = Pidfile(str(path))
    pidfile.claim()
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        pidfile.close()
        theirs.sendall(b"closed")
        theirs.recv(1)
        os._exit(0)
    ours.recv(6)
    # As if we had been killed: the child lives on, and the file names nobody who could hold it.
    pidfile.close()
    Pidfile(str(path)).claim()
    ours.sendall(b".")
    os.waitpid(pid, 0)
