"""The names of Redis keys are in `docket/store/keys.py` and in the Lua scripts, nowhere else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.guards.tree import REPOSITORY, modules, plant

ALLOWED = ("docket.store.keys",)

WORDS = (
    "runs|stream|queue|results|progress|state|concurrency|waiting|strikes|held|workers?|dead|generations|deferred|orphans"
    "|tasks|known|timekeeper|signals"
)
KEY = re.compile(rf"(?:^|[\w}}]):(?:{WORDS})(?=:|$)")


def key_names(root: Path) -> list[str]:
    return [
        module.at(node, f"{text!r} looks like the name of a key: docket.store.keys gives it")
        for module in modules(root)
        if module.name not in ALLOWED
        for node, text in _texts(module.tree)
        if KEY.search(text)
    ]


def _texts(tree: ast.Module) -> list[tuple[ast.Constant, str]]:
    """The strings of a module, without its docstrings."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found: list[tuple[ast.Constant, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in prose:
            if isinstance(node.value, str):
                found.append((node, node.value))
            elif isinstance(node.value, bytes):
                found.append((node, node.value.decode("latin-1")))
    return found


def test_keys_are_named_in_one_place():
    assert key_names(REPOSITORY) == []


@pytest.mark.parametrize(
    "text",
    [
        'key = f"{prefix}:runs:{key}"',
        'key = name + ":stream"',
        'key = "docket:queue"',
        'key = b":workers"',
        'key = f"{name}:worker:{worker_id}"',
        'key = ":".join([name, x]) + ":dead"',
    ],
)
def test_a_key_elsewhere_is_found(text, tmp_path):
    assert key_names(plant(tmp_path, {"tasks_sdk/docket/x.py": text}))


@pytest.mark.parametrize(
    "text",
    [
        '"""The record lies in `P:runs:{key}`."""',
        'TASKS = "docket.tasks:standard_tasks"',
        'TITLE = "docket: worker NAME"',
        'MESSAGE = "unknown state: running"',
        "import docket.store.keys\nkeys.stream",
    ],
)
def test_other_texts_are_not_found(text, tmp_path):
    assert key_names(plant(tmp_path, {"tasks_sdk/docket/x.py": text})) == []


def test_the_one_place_may(tmp_path):
    assert key_names(plant(tmp_path, {"tasks_sdk/docket/store/keys.py": 'x = "p:runs:k"'})) == []
