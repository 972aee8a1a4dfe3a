"""The three lists of the front door agree: `__all__`, what type checkers see, what is loaded when asked for."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.guards.tree import REPOSITORY, Module, dotted, exists, modules, plant


def front_door(root: Path) -> list[str]:
    door = next((module for module in modules(root) if module.name == "docket"), None)
    if door is None or not door.tree.body:
        return []
    everything = _all(door.tree)
    for_checkers = _for_checkers(door)
    when_asked = _when_asked(door.tree)
    defined = _defined(door.tree)
    found = [
        f"__all__ names {name} twice" for name in sorted({n for n in everything if everything.count(n) > 1})
    ]
    for name in sorted({*everything, *for_checkers, *when_asked} - defined):
        missing = [
            list_name
            for list_name, names in (
                ("__all__", everything),
                ("the TYPE_CHECKING imports", for_checkers),
                ("the lazy table", when_asked),
            )
            if name not in names
        ]
        if missing:
            found.append(f"{name} is missing in {' and in '.join(missing)}")
        elif for_checkers[name] != when_asked[name]:
            found.append(
                f"{name} comes from {for_checkers[name]} for type checkers, else from {when_asked[name]}"
            )
    for name in sorted(set(everything) & defined & {*for_checkers, *when_asked}):
        found.append(f"{name} is defined at once, so it needs no other entry")
    return found + [
        f"{name}: there is no module {module}"
        for name, module in sorted(when_asked.items())
        if not exists(root, module)
    ]


def _all(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if "__all__" in map(dotted, targets):
                return [name for name in ast.literal_eval(node.value)]
    return []


def _for_checkers(door: Module) -> dict[str, str]:
    found: dict[str, str] = {}
    for block in door.tree.body:
        if isinstance(block, ast.If) and dotted(block.test).endswith("TYPE_CHECKING"):
            for node in ast.walk(block):
                if isinstance(node, ast.ImportFrom):
                    source = f"docket.{node.module or ''}".rstrip(".") if node.level else node.module or ""
                    found.update((alias.asname or alias.name, source) for alias in node.names)
    return found


def _when_asked(tree: ast.Module) -> dict[str, str]:
    """The table of the lazy `__getattr__`: `{name: module}`, `{name: (module, attribute)}`, `{module: (names…)}`."""
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            for key, value in ast.literal_eval(node.value).items():
                if "." in key or isinstance(value, list | set | frozenset):
                    found.update((name, _absolute(key)) for name in value)
                else:
                    found[key] = _absolute(value if isinstance(value, str) else value[0])
    return found


def _absolute(module: str) -> str:
    return f"docket{module}" if module.startswith(".") else module


def _defined(tree: ast.Module) -> set[str]:
    names = {"__version__"}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names.update(map(dotted, node.targets))
    return names


@pytest.mark.skipif(
    not (REPOSITORY / "tasks_sdk/docket/__init__.py").exists(), reason="the door is not built yet"
)
def test_every_public_name_can_be_had():
    import docket

    for name in docket.__all__:
        assert getattr(docket, name) is not None
    assert set(docket.__all__) <= set(dir(docket))


def test_the_lists_agree():
    assert front_door(REPOSITORY) == []


DOOR = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from docket.docket import Docket as Docket
    from docket_runtime.worker import Worker as Worker
__version__ = "1"
__all__ = ["Docket", "Worker", "__version__"]
_HOMES = {"Docket": "docket.docket", "Worker": "docket_runtime.worker"}
def __getattr__(name): ...
"""


@pytest.mark.parametrize(
    ("change", "to"),
    [
        ('"Docket", "Worker", "__', '"Docket", "__'),
        ('"Docket", "Worker", "__', '"Docket", "Docket", "Worker", "__'),
        ("    from docket.docket import Docket as Docket\n", ""),
        (', "Worker": "docket_runtime.worker"', ""),
        ('"Docket": "docket.docket"', '"Docket": "docket.other"'),
        ("docket_runtime.worker", "docket_runtime.nowhere"),
        ('"Worker", "__', '"Worker", "More", "__'),
    ],
)
def test_a_difference_is_found(change, to, tmp_path):
    rooms = {
        "tasks_sdk/docket/docket.py": "",
        "tasks_sdk/docket/other.py": "",
        "runtime/docket_runtime/worker.py": "",
    }
    plant(tmp_path, {"tasks_sdk/docket/__init__.py": DOOR, **rooms})
    assert front_door(tmp_path) == []
    assert change in DOOR
    assert front_door(plant(tmp_path, {"tasks_sdk/docket/__init__.py": DOOR.replace(change, to)}))
