"""What holds for every command: help, one-line errors, exit codes, the same behaviour for every URL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from docket import __version__
from tests.cli.conftest import Answer
from tests.redis_server import RedisServer

COMMANDS = {
    "worker",
    "watch",
    "snapshot",
    "cancel",
    "clear",
    "dead",
    "strike",
    "restore",
    "strikes",
    "workers",
    "tasks",
    "version",
}

CLIENT_COMMANDS = [
    ("snapshot",),
    ("snapshot", "--json"),
    ("clear",),
    ("dead", "ls"),
    ("dead", "ls", "--json"),
    ("strike", "trace"),
    ("restore", "trace"),
    ("strikes",),
    ("workers",),
    ("workers", "ls"),
    ("workers", "for-task", "trace"),
    ("tasks", "trace"),
    ("tasks", "fail"),
    ("tasks", "sleep"),
]


def test_without_a_command_it_shows_its_help_and_exits_with_2(run: Answer) -> None:
    code, _, told = run()
    assert code == 2
    assert "Usage: docket" in told
    assert all(command in told for command in COMMANDS)


def test_only_what_is_built_is_there(invoke: Answer) -> None:
    code, told, _ = invoke("--help")
    listed = {line.split()[0] for line in told.partition("Commands:")[2].splitlines() if line.strip()}
    assert (code, listed) == (0, COMMANDS)


def test_version_is_bare(run: Answer) -> None:
    assert run("version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize("command", CLIENT_COMMANDS)
def test_help_tells_the_variables_and_the_defaults(invoke: Answer, command: tuple[str, ...]) -> None:
    code, told, _ = invoke(*command, "--help", COLUMNS="200")
    told = " ".join(told.split())  # however wide typer thinks a line may be
    assert code == 0
    for word in ("DOCKET_NAME", "DOCKET_URL", "default: docket", "redis://localhost:6379/0"):
        assert word in told


@pytest.mark.parametrize("command", CLIENT_COMMANDS)
@pytest.mark.parametrize(
    ("url", "code", "sentence"),
    [
        ("http://localhost", 2, "expected a URL that begins with redis://"),
        ("redis://localhost/first", 2, "expected a database number"),
        ("memory://", 2, "a memory server needs a name"),
        ("redis://localhost:1", 1, "cannot reach Redis at redis://localhost:1"),
        ("redis://me:secret@localhost:1", 1, "cannot reach Redis at redis://***@localhost:1"),
        ("unix:///nowhere/redis.sock", 1, "cannot reach Redis at unix:"),
    ],
)
def test_trouble_is_one_line(
    invoke: Answer, command: tuple[str, ...], url: str, code: int, sentence: str
) -> None:
    got, told, line = invoke(*command, "--url", url)
    assert (got, told) == (code, "")
    assert line.startswith(f"docket: {sentence}") or f": {sentence}" in line
    assert line.count("\n") == 1 and "secret" not in line


def test_an_empty_name_is_refused(invoke: Answer) -> None:
    code, told, line = invoke("snapshot", "--docket", "")
    assert (code, told) == (2, "")
    assert line == "docket: expected the docket's name to have at least one character, got ''\n"


@pytest.fixture
def guarded(short_folder: Path) -> Iterator[RedisServer]:
    server = RedisServer(short_folder)
    server.start()
    with redis.Redis(unix_socket_path=server.socket_path) as client:
        client.config_set("requirepass", "hush")
    yield server
    server.stop()


def test_a_wrong_password_is_one_line(invoke: Answer, guarded: RedisServer) -> None:
    for url in (guarded.url, guarded.url.replace("unix://", "unix://:wrong@")):
        code, told, line = invoke("snapshot", "--url", url)
        assert (code, told) == (1, "")
        assert line.count("\n") == 1 and "refused the user name or password" in line
        assert "wrong@" not in line
    assert invoke("clear", "--url", guarded.url.replace("unix://", "unix://:hush@"))[0] == 0


def test_what_redis_refuses_is_one_line(invoke: Answer, redis_server: RedisServer) -> None:
    code, told, line = invoke("snapshot", "--url", f"{redis_server.url}?db=9999")
    assert (code, told) == (1, "")
    assert line.startswith("docket: Redis at ") and line.endswith("refused: DB index is out of range\n")


@pytest.mark.parametrize("kind", ["memory", "embedded"])
@pytest.mark.parametrize("command", CLIENT_COMMANDS)
def test_every_command_works_on_a_server_of_our_own(
    invoke: Answer, command: tuple[str, ...], kind: str, short_folder: Path
) -> None:
    url = f"memory://{short_folder.name}" if kind == "memory" else f"embedded://{short_folder}/data"
    code, told, line = invoke(*command, "--url", url)
    assert (code, line) == (0, "")
    assert told


def test_an_embedded_docket_is_there_again_for_the_next_command(run: Answer, short_folder: Path) -> None:
    url = f"embedded://{short_folder}/data"
    assert run("tasks", "trace", "a voice from the past", DOCKET_URL=url)[0] == 0
    assert json.loads(run("snapshot", "--json", DOCKET_URL=url)[1])["counts"]["due"] == 1
    code, told, log = run("worker", "--until-finished", DOCKET_URL=url)
    assert (code, told) == (0, "")
    assert "a voice from the past" in log
    assert json.loads(run("snapshot", "--json", DOCKET_URL=url)[1])["counts"]["due"] == 0
