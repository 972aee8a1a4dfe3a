"""What holds for every command: help, one-line errors, exit codes, the same behaviour for every URL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from docket import __version__
from docket.sync import Docket
from tests.cli.conftest import Answer
from tests.redis_server import RedisServer

COMMANDS = {
    "worker",
    "watch",
    "snapshot",
    "cancel",
    "clear",
    "dead",
    "runs",
    "limits",
    "why",
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
    ("snapshot", "--stats"),
    ("clear",),
    ("clear", "--json"),
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
    ("tasks", "trace", "--json"),
]

COMMANDS_ABOUT_ONE = [
    ("cancel", "nobody"),
    ("watch", "nobody"),
    ("runs", "show", "nobody"),
    ("dead", "show", "nobody"),
    ("dead", "retry", "nobody"),
    ("dead", "purge", "nobody"),
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


@pytest.mark.parametrize("command", COMMANDS_ABOUT_ONE)
def test_what_is_not_there_is_exit_4_on_a_server_of_our_own_too(
    invoke: Answer, command: tuple[str, ...], short_folder: Path
) -> None:
    code, _, line = invoke(*command, "--url", f"memory://{short_folder.name}")
    assert code == 4
    assert line == "" or line.count("\n") == 1


@pytest.mark.parametrize("command", [*CLIENT_COMMANDS, *COMMANDS_ABOUT_ONE, ("worker",)])
def test_every_help_tells_the_exit_codes(invoke: Answer, command: tuple[str, ...]) -> None:
    told = " ".join(invoke(*command, "--help", COLUMNS="200")[1].split())
    assert "Exit codes: 0 " in told or "Exits with 0 " in told


@pytest.mark.parametrize(
    "command", [*CLIENT_COMMANDS, ("dead", "retry", "--all"), ("dead", "purge", "--all")]
)
def test_every_client_command_can_answer_a_program(ask: Answer, command: tuple[str, ...]) -> None:
    words = [word for word in command if word not in ("--json", "--stats")]
    code, told, line = ask(*words, "--json")
    assert (code, line) == (0, "")
    json.loads(told)
    ask("restore", "trace")
    ask("clear")


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (("snapshto",), "Did you mean 'snapshot'?"),
        (("dead", "retri"), "Did you mean 'retry'?"),
        (("snapshot", "--jso"), "--json"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_right_one(
    invoke: Answer, arguments: tuple[str, ...], suggestion: str
) -> None:
    code, _, line = invoke(*arguments)
    assert code == 2
    assert suggestion in line


@pytest.mark.parametrize("name", ["shopp", "shop"])
@pytest.mark.parametrize(
    "command", [("snapshot",), ("workers", "ls"), ("dead", "ls"), ("strikes",), ("workers", "for-task", "x")]
)
def test_an_empty_list_of_a_mistyped_docket_names_the_right_one(
    invoke: Answer, command: tuple[str, ...], name: str, own_redis: RedisServer
) -> None:
    invoke("tasks", "trace", DOCKET_NAME="shop", DOCKET_URL=own_redis.url)
    invoke("clear", DOCKET_NAME="shop", DOCKET_URL=own_redis.url)
    code, told, line = invoke(*command, "--json", DOCKET_NAME=name, DOCKET_URL=own_redis.url)
    assert code == 0
    json.loads(told)
    expected = "docket: nothing was ever done with a docket named 'shopp' there; did you mean 'shop'?\n"
    assert line == (expected if name == "shopp" else "")


@pytest.mark.parametrize("command", [one for one in COMMANDS_ABOUT_ONE if one[1] not in ("retry", "purge")])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("shopp", "'shopp': nothing was ever done with a docket named 'shopp' there; did you mean 'shop'?"),
        ("elsewhere", "nothing was ever done with a docket named 'elsewhere' there, but with 'shop'"),
        ("shop", "in docket 'shop'"),
    ],
)
def test_what_is_not_found_in_an_unused_docket_is_explained(
    invoke: Answer, command: tuple[str, ...], name: str, words: str, own_redis: RedisServer
) -> None:
    invoke("tasks", "trace", DOCKET_NAME="shop", DOCKET_URL=own_redis.url)
    code, told, line = invoke(*command, DOCKET_NAME=name, DOCKET_URL=own_redis.url)
    assert (code, told) == (4, "")
    assert line.endswith(f"{words}\n") and line.count("\n") == 1


def test_a_shell_can_be_taught_to_complete(run: Answer) -> None:
    code, told, _ = run("--show-completion", "bash")
    assert code == 0
    assert "_DOCKET_COMPLETE=complete_bash" in told


def _completed(run: Answer, line: str, **environment: str) -> list[str]:
    words = line.split(" ")
    code, told, trouble = run(
        COMP_WORDS=line, COMP_CWORD=str(len(words) - 1), _DOCKET_COMPLETE="complete_bash", **environment
    )
    assert (code, trouble) == (0, "")
    return told.split()


def test_names_of_tasks_and_keys_of_dead_letters_are_completed(
    run: Answer, client: Docket, redis_server: RedisServer, docket_name: str
) -> None:
    client.add("nobody_knows_it", key="lost-1")()
    where = {"DOCKET_URL": redis_server.url, "DOCKET_NAME": docket_name}
    assert run("worker", "--until-finished", **where)[0] == 0
    assert _completed(run, "docket workers for-task tr", **where) == ["trace"]
    assert set(_completed(run, "docket strike ", **where)) == {"trace", "fail", "sleep"}
    assert _completed(run, "docket dead show l", **where) == ["lost-1"]
    there = f"--url {redis_server.url} --docket {docket_name}"
    assert _completed(run, f"docket dead retry {there} lo") == ["lost-1"]
    assert _completed(run, "docket dead show l", DOCKET_URL="redis://localhost:1") == []
    client.purge_dead()


def test_completing_starts_no_server(run: Answer, short_folder: Path) -> None:
    assert _completed(run, "docket strike t", DOCKET_URL=f"embedded://{short_folder}/data") == []
    assert not (short_folder / "data").exists()


def test_an_embedded_docket_is_there_again_for_the_next_command(run: Answer, short_folder: Path) -> None:
    url = f"embedded://{short_folder}/data"
    assert run("tasks", "trace", "a voice from the past", DOCKET_URL=url)[0] == 0
    assert json.loads(run("snapshot", "--json", DOCKET_URL=url)[1])["counts"]["due"] == 1
    code, told, log = run("worker", "--until-finished", DOCKET_URL=url)
    assert (code, told) == (0, "")
    assert "a voice from the past" in log
    assert json.loads(run("snapshot", "--json", DOCKET_URL=url)[1])["counts"]["due"] == 0
