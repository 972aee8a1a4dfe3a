"""What the README says is true: its example runs, its files exist, its exit codes and its unit are the program's."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from docket_supervisor.codes import ExitCode
from tests.cli.conftest import ROOT, variables
from tests.redis_server import RedisServer

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def run_example(folder: Path, **environment: str) -> str:
    (example,) = blocks("python")
    (folder / "example.py").write_text(example)
    done = subprocess.run(
        [sys.executable, "example.py"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=variables(**environment),
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_runs_when_pasted(tmp_path: Path) -> None:
    assert run_example(tmp_path) == "Hello, world! 6\n"


def test_the_example_runs_on_a_given_redis(tmp_path: Path, own_redis: RedisServer) -> None:
    assert run_example(tmp_path, DOCKET_URL=own_redis.url) == "Hello, world! 6\n"


def test_the_example_is_short() -> None:
    (example,) = blocks("python")
    assert sum(bool(line.strip()) for line in example.splitlines()) <= 24


@pytest.mark.parametrize("text", ["README.md", "docs/design.md"])
def test_every_file_it_names_exists(text: str) -> None:
    words = re.findall(r"`([\w/]+\.(?:py|lua|md))`|\]\(([\w/.]+)\)", (ROOT / text).read_text())
    places = ("", "tasks_sdk/docket/", "tasks_sdk/docket/store/lua/")
    theirs = {"my_tasks.py"}
    missing = [
        name
        for pair in words
        if (name := pair[0] or pair[1]) not in theirs
        and not any((ROOT / place / name).exists() for place in places)
    ]
    assert missing == []


def test_every_exit_code_is_in_the_table() -> None:
    table = [line for line in README.splitlines() if line.startswith("| ")]
    told = {int(code) for line in table for code in re.findall(r"\d+", line.split("|")[1])}
    assert told == {int(code) for code in ExitCode}


def test_the_unit_starts_what_can_be_started(tmp_path: Path) -> None:
    (unit,) = blocks("ini")
    (command,) = re.findall(r"^ExecStart=\S*/docket-supervise (.*)$", unit, re.MULTILINE)
    (tmp_path / "my_tasks.py").write_text("def f(): ...\ntasks = [f]\n")
    done = subprocess.run(
        [sys.executable, "-m", "docket_supervisor", *command.split(), "--check"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=variables(),
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_the_commands_it_shows_exist(tmp_path: Path, own_redis: RedisServer) -> None:
    (tmp_path / "my_tasks.py").write_text("def f(): ...\ntasks = [f]\n")
    shown = [
        line.removeprefix("$ docket ").partition("  ")[0]
        for block in blocks("console")
        for line in block.splitlines()
        if line.startswith("$ docket ")
    ]
    assert len(shown) == 9
    for command in sorted(
        shown, key=lambda one: one.startswith("worker ")
    ):  # the worker last: all is cleared
        more = ["--until-finished"] if command.startswith("worker ") else []
        done = subprocess.run(
            [sys.executable, "-m", "docket", *shlex.split(command), *more],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=variables(DOCKET_URL=own_redis.url),
            timeout=60,
        )
        assert done.returncode == 0, (command, done.stderr)
