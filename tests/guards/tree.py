"""The checkout as the guards see it: modules with their syntax trees, and what each of them imports."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SOURCE_ROOTS = {"docket": "tasks_sdk", "docket_runtime": "runtime", "docket_supervisor": "supervisor"}

Guard = Callable[[Path], list[str]]
"""Takes the root of a checkout, returns one line per violation."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Import:
    """One imported module, by its full name."""

    module: str
    line: int
    at_import: bool
    """It is carried out when the importing module is: not in a function, not for type checkers only."""
    for_types: bool


@dataclass(frozen=True)
class Module:
    name: str
    """`docket.store.keys`; a package has the package's name."""
    path: Path
    root: Path

    @property
    def place(self) -> str:
        return self.path.relative_to(self.root).as_posix()

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(), filename=str(self.path))

    @cached_property
    def imports(self) -> list[Import]:
        return list(_imports(self, self.tree, at_import=True, for_types=False))

    def at(self, node: ast.expr | ast.stmt | ast.ExceptHandler, what: str) -> str:
        return f"{self.place}:{node.lineno}: {what}"

    def functions(self) -> Iterator[tuple[str, Function]]:
        """Every function with its qualified name."""
        yield from _functions(self.tree, "")


def modules(root: Path) -> list[Module]:
    """Every module of the three source roots that is there."""
    found: list[Module] = []
    for package, folder in SOURCE_ROOTS.items():
        base = root / folder
        for path in sorted((base / package).rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            found.append(Module(".".join(parts[:-1] if parts[-1] == "__init__" else parts), path, root))
    return found


def plant(root: Path, files: dict[str, str]) -> Path:
    """A checkout with these files in it: something for a guard to find."""
    for place, text in files.items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def exists(root: Path, module: str) -> bool:
    base = root / SOURCE_ROOTS.get(module.partition(".")[0], ".") / Path(*module.split("."))
    return base.with_suffix(".py").exists() or base.is_dir()


def dotted(node: ast.AST) -> str:
    """`time.monotonic` for such an expression; a call is written `f()`; `?` for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    if isinstance(node, ast.Call):
        return f"{dotted(node.func)}()"
    return "?"


def aliases(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for: `{"t": "time", "now": "datetime.datetime.now"}`."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname:
                    known[alias.asname] = alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return known


def _functions(node: ast.AST, inside: str) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield f"{inside}{child.name}", child
            yield from _functions(child, f"{inside}{child.name}.")
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{inside}{child.name}.")
        else:
            yield from _functions(child, inside)


def _imports(module: Module, node: ast.AST, *, at_import: bool, for_types: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and dotted(child.test).rpartition(".")[2] == "TYPE_CHECKING":
            for statement in child.body:
                wrapper = ast.Module(body=[statement], type_ignores=[])
                yield from _imports(module, wrapper, at_import=False, for_types=True)
            for statement in child.orelse:
                wrapper = ast.Module(body=[statement], type_ignores=[])
                yield from _imports(module, wrapper, at_import=at_import, for_types=for_types)
            continue
        for name in _named(module, child):
            yield Import(name, getattr(child, "lineno", 0), at_import, for_types)
        inner = at_import and not isinstance(child, Function | ast.Lambda)
        yield from _imports(module, child, at_import=inner, for_types=for_types)


def _named(module: Module, node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        source = node.module or ""
        if node.level:
            parts = module.name.split(".")
            up = node.level - (module.path.name == "__init__.py")
            source = ".".join([*parts[: len(parts) - up], *([source] if source else [])])
        for alias in node.names:
            submodule = f"{source}.{alias.name}"
            yield submodule if exists(module.root, submodule) else source
    elif isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in (
        "import_module",
        "__import__",
    ):
        for argument in node.args[:1]:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield argument.value
