"""Everything is caught at four borders only: a task's call, one round of a background loop, a user's callback,
a child's main. Each such place stands here with its reason."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.guards.tree import REPOSITORY, Module, dotted, modules, plant

PAYLOAD = "tasks_sdk/docket/payload.py"

BORDERS: dict[tuple[str, str], str] = {
    ("runtime/docket_runtime/executor.py", "Executor._run"): "around a task's call",
    ("runtime/docket_runtime/executor.py", "Executor._opened"): "around a task's call",
    ("runtime/docket_runtime/executor.py", "Executor._refused"): "a user's strategy that names a limit",
    ("tasks_sdk/docket/admission.py", "known_to_the_caller"): "a user's __str__",
    ("runtime/docket_runtime/resolution.py", "Opening.open"): "a user's dependency, opened",
    ("runtime/docket_runtime/resolution.py", "Opening._open_in_thread"): "a user's dependency, opened",
    ("runtime/docket_runtime/resolution.py", "Opening.call_in_thread"): "a user's dependency, opened",
    ("runtime/docket_runtime/shared.py", "SharedValues.get"): "a user's dependency, opened",
    ("runtime/docket_runtime/shared.py", "SharedValues._open"): "a user's dependency, opened",
    ("runtime/docket_runtime/shared.py", "SharedValues._kept"): "a user's dependency, closed by itself",
    ("runtime/docket_runtime/leases.py", "LeaseKeeper._run"): "a user's credential provider",
    ("runtime/docket_runtime/outcomes.py", "completed"): "a user's __reduce__",
    ("runtime/docket_runtime/rehearsal.py", "rehearse"): "a user's tasks, registered",
    ("runtime/docket_runtime/run.py", "_load_storage"): "a user's module while it is imported",
    ("runtime/docket_runtime/run.py", "_load_task"): "a user's module while it is imported",
    ("runtime/docket_runtime/run.py", "_register"): "a user's module while it is imported",
    ("runtime/docket_runtime/run.py", "run_worker"): "a child's main",
    ("runtime/docket_runtime/threads.py", "Threads._work"): "around a task's call, in its thread",
    (
        "runtime/docket_runtime/flights.py",
        "Flights._fly",
    ): "one round: the other executions of this worker go on",
    ("tasks_sdk/docket/cli/runs.py", "_result"): "what a task raised, raised again",
    ("runtime/docket_runtime/run.py", "_load_dependencies"): "a user's module while it is imported",
    ("runtime/docket_runtime/telemetry.py", "_flush"): "a user's exporter",
    ("tasks_sdk/docket/annotations.py", "Logged.show"): "a user's repr()",
    ("tasks_sdk/docket/annotations.py", "_evaluated"): "a user's annotations, evaluated",
    ("tasks_sdk/docket/logs.py", "_shown"): "a user's str()",
    (PAYLOAD, "dump"): "a user's __reduce__",
    (PAYLOAD, "load"): "a user's __setstate__, and bytes that anybody may have written",
    (PAYLOAD, "dump_arguments"): "a user's __reduce__",
    (PAYLOAD, "_culprit"): "a user's __reduce__",
    (PAYLOAD, "dump_exception"): "a user's exception class",
    (PAYLOAD, "_dump_parts"): "a user's exception class",
    (PAYLOAD, "_message_of"): "a user's __str__",
    (PAYLOAD, "_traceback_of"): "a user's __str__ and __repr__",
    (PAYLOAD, "load_exception"): "a user's exception class",
    ("tasks_sdk/docket/resultstorage.py", "ResultStorage.fetch"): "a user's result storage",
    ("tasks_sdk/docket/resultstorage.py", "ResultStorage.keep"): "a user's result storage",
    ("tasks_sdk/docket/strikelist.py", "StrikeList._strikes"): "a user's __eq__ and __lt__",
    ("tasks_sdk/docket/strikelist.py", "_same"): "a user's __eq__ and __reduce__",
    ("tasks_sdk/docket/strikes.py", "strike"): "a user's __reduce__",
    (
        "supervisor/docket_supervisor/answering.py",
        "Door._respond",
    ): "one round: leases are renewed in the same process",
    ("supervisor/docket_supervisor/forking.py", "_be_the_child"): "a child's main",
    ("supervisor/docket_supervisor/loading.py", "find"): "a user's module while it is imported",
    ("supervisor/docket_supervisor/loading.py", "set_up"): "a user's function, called once",
    ("supervisor/docket_supervisor/steward.py", "Steward._attempt"): "one round of a background loop",
}
"""(file, qualified function): whose code runs there, or which loop must go on."""

BROAD = {"Exception", "BaseException", "builtins.Exception", "builtins.BaseException"}


def broad_excepts(root: Path, borders: dict[tuple[str, str], str] = BORDERS) -> list[str]:
    found: list[str] = []
    for module in modules(root):
        for function, handler in _handlers(module):
            if (
                (module.place, function) not in borders
                and _is_broad(handler)
                and not _only_cleans_up(handler)
            ):
                found.append(
                    module.at(handler, f"{function or 'the module'} catches everything and is no border")
                )
    return found


def _is_broad(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(one is None or dotted(one) in BROAD for one in caught)


def _only_cleans_up(handler: ast.ExceptHandler) -> bool:
    """It catches nothing: the last thing it does is to let the same exception go on."""
    last = handler.body[-1]
    leaves_early = any(isinstance(node, ast.Return | ast.Continue | ast.Break) for node in ast.walk(handler))
    return isinstance(last, ast.Raise) and last.exc is None and not leaves_early


def _handlers(module: Module) -> list[tuple[str, ast.ExceptHandler]]:
    """Every handler with the innermost function that it is in."""
    owner: dict[int, str] = {}
    for name, function in module.functions():  # outer ones first, so that inner ones overwrite
        owner.update((id(node), name) for node in ast.walk(function))
    handlers = (node for node in ast.walk(module.tree) if isinstance(node, ast.ExceptHandler))
    return [(owner.get(id(handler), ""), handler) for handler in handlers]


def test_everything_is_caught_at_borders_only():
    assert broad_excepts(REPOSITORY) == []


def test_every_border_is_still_there():
    places = {
        (module.place, name)
        for module in modules(REPOSITORY)
        for name, handler in _handlers(module)
        if _is_broad(handler)
    }
    assert [border for border in BORDERS if border not in places] == []


@pytest.mark.parametrize("caught", ["", " Exception", " BaseException as error", " (ValueError, Exception)"])
def test_a_broad_except_is_found(caught, tmp_path):
    text = f"class C:\n    def f(self):\n        try: ...\n        except{caught}:\n            return"
    plant(tmp_path, {"tasks_sdk/docket/x.py": text})
    assert "C.f catches everything" in broad_excepts(tmp_path)[0]
    assert broad_excepts(tmp_path, {("tasks_sdk/docket/x.py", "C.f"): "a border"}) == []


@pytest.mark.parametrize(
    "handler",
    [
        "except ValueError:\n    ...",
        "except (OSError, KeyError):\n    ...",
        "except BaseException:\n    raise",
    ],
)
def test_a_narrow_except_is_not(handler, tmp_path):
    assert broad_excepts(plant(tmp_path, {"tasks_sdk/docket/x.py": f"try:\n    ...\n{handler}"})) == []
