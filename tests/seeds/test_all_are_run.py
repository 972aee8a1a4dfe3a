"""No example of the documents is forgotten: each is run by a test here."""

from __future__ import annotations

import ast

from tests.seeds.documents import FOLDER, PATTERNS, README, examples


def run_somewhere() -> set[tuple[str, str, int]]:
    """What stands in calls of `example(...)` in this folder's tests."""
    found: set[tuple[str, str, int]] = set()
    for path in FOLDER.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "example":
                document, heading, *number = node.args
                assert isinstance(document, ast.Name)
                place = {"README": README, "PATTERNS": PATTERNS}[document.id]
                found.add((place, ast.literal_eval(heading), ast.literal_eval(number[0]) if number else 1))
    return found


def test_every_example_is_run():
    printed = {
        (one.document, one.heading, one.number) for name in (README, PATTERNS) for one in examples(name)
    }
    assert run_somewhere() == printed
