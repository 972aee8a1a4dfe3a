"""No function is longer than a screen: 70 lines."""

from __future__ import annotations

from pathlib import Path

from tests.guards.tree import REPOSITORY, modules, plant

LONGEST = 70


def long_functions(root: Path) -> list[str]:
    found: list[str] = []
    for module in modules(root):
        for name, function in module.functions():
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > LONGEST:
                found.append(module.at(function, f"{name} has {lines} lines, more than {LONGEST}"))
    return found


def test_no_function_is_long():
    assert long_functions(REPOSITORY) == []


def test_a_long_function_is_found(tmp_path):
    body = "".join("        pass\n" for _ in range(LONGEST))
    text = f"class C:\n    async def f(self):\n{body}"
    assert "C.f has 71 lines" in long_functions(plant(tmp_path, {"tasks_sdk/docket/x.py": text}))[0]


def test_a_function_of_seventy_lines_is_not(tmp_path):
    text = "def f():\n" + "    pass\n" * (LONGEST - 1)
    assert long_functions(plant(tmp_path, {"tasks_sdk/docket/x.py": text})) == []
