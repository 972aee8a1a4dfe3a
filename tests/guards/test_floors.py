"""Who may import whom: the floors of the house, the order inside `docket`, the door that nobody inside uses."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.guards.tree import REPOSITORY, SOURCE_ROOTS, Module, modules, plant

FLOORS = {
    "docket": (),
    "docket_runtime": ("docket",),
    "docket_supervisor": ("docket", "docket_runtime"),
}
OUTSIDE = ("chaos", "tests", "examples")

BEFORE_THE_FORK = ("docket_runtime.settings",)
"""What the supervisor may load of the runtime at once; the rest costs memory where no task is run."""

DOORS = ("docket", "docket.worker", "docket.instrumentation", "docket.testing")
"""Names for users. The three modules only pass on what lives on an upper floor."""

CLI = "docket.cli"

RANKS = (
    ("clock", "errors"),
    ("store",),
    ("message", "payload"),
    ("execution", "results", "progress", "events"),
    ("agenda", "snapshot", "registry", "strikes"),
    ("docket",),
)
"""Inside `docket`, downwards only. A module not named here may be used by all, but leads nobody upwards."""


def _is_in(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _may_name_upper_floors(module: Module) -> bool:
    return module.name in DOORS or _is_in(module.name, (CLI, "docket.__main__"))


def _is_thin(module: Module) -> bool:
    """Nothing but imports, `__all__` and a docstring."""
    for node in module.tree.body:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_all = isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [
            "__all__"
        ]
        if not (is_text or is_all or isinstance(node, ast.Import | ast.ImportFrom)):
            return False
    return True


def floors(root: Path) -> list[str]:
    found: list[str] = []
    for module in modules(root):
        allowed = (module.package, *FLOORS[module.package])
        names_above = [one for one in module.imports if _is_in(one.module, tuple(SOURCE_ROOTS))]
        names_above = [one for one in names_above if not _is_in(one.module, allowed)]
        for one in [] if _may_name_upper_floors(module) else names_above:
            found.append(f"{module.place}:{one.line}: {module.package} must not know {one.module}")
        if names_above and module.name in DOORS[1:] and not _is_thin(module):
            found.append(
                f"{module.place}: names {names_above[0].module}, so it may do nothing but pass names on"
            )
        for one in module.imports:
            if _is_in(one.module, OUTSIDE):
                found.append(f"{module.place}:{one.line}: nothing imports {one.module}")
    return found


def after_the_fork(root: Path) -> list[str]:
    return [
        f"{module.place}:{one.line}: {one.module} is for after the fork: import it in a function"
        for module in modules(root)
        if module.package == "docket_supervisor"
        for one in module.imports
        if one.at_import
        and _is_in(one.module, ("docket_runtime",))
        and not _is_in(one.module, BEFORE_THE_FORK)
    ]


def the_door(root: Path) -> list[str]:
    return [
        f"{module.place}:{one.line}: name the room, not the door {one.module}"
        for module in modules(root)
        if not _may_name_upper_floors(module)
        for one in module.imports
        if one.module in DOORS and not (one.for_types and one.module == "docket.worker")
    ]


def _rank(name: str) -> int | None:
    head = name.removeprefix("docket.").partition(".")[0] if name.startswith("docket.") else ""
    return next((rank for rank, heads in enumerate(RANKS) if head in heads), None)


def downwards(root: Path) -> list[str]:
    inside = {module.name: module for module in modules(root) if module.package == "docket"}
    found: list[str] = []
    for module in inside.values():
        rank = _rank(module.name)
        if rank is None:
            continue
        seen: set[str] = set()
        waiting: list[tuple[str, tuple[str, ...]]] = [
            (one.module, (one.module,)) for one in module.imports if not one.for_types
        ]
        while waiting:
            name, way = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            reached = _rank(name)
            if reached is not None:
                if reached > rank:
                    found.append(
                        f"{module.place}: downwards only, and {' → '.join((module.name, *way))} leads up"
                    )
            elif name in inside and not _may_name_upper_floors(inside[name]):
                further = [one.module for one in inside[name].imports if not one.for_types]
                waiting.extend((next_name, (*way, next_name)) for next_name in further)
    return found


def circles(root: Path) -> list[str]:
    """Modules that need each other while they are being imported."""
    needs = {
        module.name: sorted(
            {one.module for one in module.imports if one.at_import and one.module != module.name}
        )
        for module in modules(root)
    }
    found: list[str] = []
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> None:
        if name in way:
            found.append(" → ".join([*way[way.index(name) :], name]))
        elif name in needs and name not in done:
            for needed in needs[name]:
                visit(needed, [*way, name])
            done.add(name)

    for name in needs:
        visit(name, [])
    return found


GUARDS = [floors, after_the_fork, the_door, downwards, circles]


@pytest.mark.parametrize("guard", GUARDS)
def test_the_floors_hold(guard):
    assert guard(REPOSITORY) == []


@pytest.mark.parametrize("guard", GUARDS)
def test_nothing_is_said_of_an_empty_checkout(guard, tmp_path):
    assert guard(tmp_path) == []


@pytest.mark.parametrize(
    ("guard", "files"),
    [
        (floors, {"tasks_sdk/docket/x.py": "import docket_runtime"}),
        (floors, {"tasks_sdk/docket/x.py": "def f():\n    from docket_runtime.run import run_worker"}),
        (floors, {"tasks_sdk/docket/x.py": "if TYPE_CHECKING:\n    from docket_supervisor import y"}),
        (
            floors,
            {"tasks_sdk/docket/x.py": "import importlib\nimportlib.import_module('docket_runtime.run')"},
        ),
        (floors, {"runtime/docket_runtime/x.py": "from docket_supervisor.main import main"}),
        (floors, {"runtime/docket_runtime/x.py": "import tests.redis_server"}),
        (floors, {"tasks_sdk/docket/worker.py": "from docket_runtime.worker import Worker\nx = 1"}),
        (after_the_fork, {"supervisor/docket_supervisor/x.py": "from docket_runtime.run import run_worker"}),
        (
            after_the_fork,
            {"supervisor/docket_supervisor/x.py": "try:\n    import docket_runtime\nexcept E: ..."},
        ),
        (the_door, {"tasks_sdk/docket/x.py": "from docket import Docket"}),
        (the_door, {"tasks_sdk/docket/store/x.py": "from .. import Docket"}),
        (the_door, {"tasks_sdk/docket/x.py": "if TYPE_CHECKING:\n    from docket import Docket"}),
        (the_door, {"runtime/docket_runtime/x.py": "import docket"}),
        (the_door, {"supervisor/docket_supervisor/x.py": "def f():\n    from docket.worker import Worker"}),
        (downwards, {"tasks_sdk/docket/message.py": "from docket.execution import Execution"}),
        (
            downwards,
            {
                "tasks_sdk/docket/store/keys.py": "def f():\n    from docket import message",
                "tasks_sdk/docket/message.py": "",
            },
        ),
        (
            downwards,
            {
                "tasks_sdk/docket/message.py": "import docket.side",
                "tasks_sdk/docket/side.py": "import docket.agenda",
            },
        ),
        (circles, {"tasks_sdk/docket/a.py": "import docket.b", "tasks_sdk/docket/b.py": "import docket.a"}),
    ],
)
def test_each_guard_bites(guard, files, tmp_path):
    assert guard(plant(tmp_path, files))


@pytest.mark.parametrize(
    "files",
    [
        {"tasks_sdk/docket/__init__.py": "from docket_runtime.worker import Worker"},
        {"tasks_sdk/docket/cli/worker.py": "from docket_runtime.run import r\nfrom docket import Docket"},
        {
            "tasks_sdk/docket/worker.py": '"""Workers."""\nfrom docket_runtime.w import Worker\n__all__ = ["Worker"]'
        },
        {"supervisor/docket_supervisor/x.py": "from docket_runtime.settings import WorkerSettings"},
        {"supervisor/docket_supervisor/x.py": "def child():\n    from docket_runtime.run import run_worker"},
        {"tasks_sdk/docket/clock.py": "", "tasks_sdk/docket/message.py": "from docket import clock"},
        {"tasks_sdk/docket/message.py": "if TYPE_CHECKING:\n    from docket.execution import Execution"},
        # `worker: Worker = CurrentWorker()`: the statement stands below, the type it promises above.
        {"tasks_sdk/docket/x.py": "if TYPE_CHECKING:\n    from docket.worker import Worker"},
    ],
)
def test_what_is_allowed_is_not_bitten(files, tmp_path):
    plant(tmp_path, files)
    assert [line for guard in GUARDS for line in guard(tmp_path)] == []
