"""A user of the built wheel has types: pyright and mypy, at their strictest, find each planted mistake and no other."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.guards.tree import REPOSITORY

USERS = Path(__file__).parent / "users"

pytestmark = [
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("hatchling", "mypy", "pyright")),
        reason="the checkers come with the extra `dev`",
    ),
    pytest.mark.timeout(300),  # both read all of redis-py first
]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment in which the wheel is installed; what it depends on is borrowed from ours."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    place = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    zipfile.ZipFile(wheel).extractall(place)
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    borrowed = [line for path in ours for pth in Path(path).glob("*.pth") for line in _folders(pth)]
    (place / "borrowed.pth").write_text("\n".join([*ours, *borrowed]))
    return folder / "bin" / "python"


def _folders(pth: Path) -> list[str]:
    """Without our own sources, which an editable installation names in a file of this kind."""
    lines = pth.read_text().splitlines()
    return [line for line in lines if Path(line).is_dir() and not Path(line).is_relative_to(REPOSITORY)]


Checker = Callable[[Path, Path], dict[int, str]]
"""Interpreter and file → line → what is wrong there."""


def pyright(python: Path, file: Path) -> dict[int, str]:
    settings = {
        "include": [file.name],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        # A mistake is planted to be left there.
        "reportUnusedVariable": False,
        "reportUnusedImport": False,
        "reportUnusedExpression": False,
    }
    (file.parent / "pyrightconfig.json").write_text(json.dumps(settings))
    done = _run(file, "pyright", "--outputjson", "--pythonpath", str(python))
    return {
        each["range"]["start"]["line"] + 1: each["message"] for each in json.loads(done)["generalDiagnostics"]
    }


def mypy(python: Path, file: Path) -> dict[int, str]:
    options = f"--strict --python-executable {python} --cache-dir {file.parent / 'cache'} --no-pretty".split()
    done = _run(file, "mypy", *options, "--enable-error-code", "unused-awaitable", file.name)
    assert re.search(r"^(Success|Found)", done, re.MULTILINE), done
    return {
        int(line): what for line, what in re.findall(rf"^{file.name}:(\d+): error: (.*)$", done, re.MULTILINE)
    }


def _run(file: Path, program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", program, *arguments],
        cwd=file.parent,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(Path.home()),
        },  # no PYTHONPATH: the wheel is what is looked at
    )
    assert done.stdout, done.stderr
    return done.stdout


def checked_copy(name: str, folder: Path) -> Path:
    copy = folder / name
    copy.write_text((USERS / name).read_text())
    return copy


CHECKERS = pytest.mark.parametrize("checker", [pyright, mypy], ids=["pyright", "mypy"])


def test_the_wheel_says_that_it_is_typed(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    packages = ("docket", "docket_runtime", "docket_supervisor")
    assert {f"{package}/py.typed" for package in packages} <= set(names)
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == set(packages)


def test_the_environment_has_the_wheel_and_not_the_sources(python: Path):
    command = [str(python), "-c", "import docket, redis; print(docket.__file__)"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env={}).stdout
    assert Path(said.strip()).is_relative_to(python.parents[1]), said


@CHECKERS
def test_nothing_is_found_in_what_is_correct(checker: Checker, python: Path, tmp_path: Path):
    assert checker(python, checked_copy("correct.py", tmp_path)) == {}


@CHECKERS
def test_every_planted_mistake_is_found_and_nothing_else(checker: Checker, python: Path, tmp_path: Path):
    file = checked_copy("mistakes.py", tmp_path)
    lines = file.read_text().splitlines()
    planted = {number: line for number, line in enumerate(lines, 1) if "  # mistake: " in line}
    found = checker(python, file)
    assert {planted[line] for line in planted.keys() - found.keys()} == set(), "not found"
    assert {(lines[line - 1], found[line]) for line in found.keys() - planted.keys()} == set(), "not planted"
    assert len(planted) > 50
