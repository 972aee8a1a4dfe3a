"""The pages of docs/ as their readers use them: snippets pasted one after the other, files saved, commands typed."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from tests.guards.tree import REPOSITORY

FOLDER = REPOSITORY / "docs"
PAGES = sorted(path.name for path in FOLDER.glob("*.md"))

NOT_TYPED = ("pip", "docket-supervise")
"""What installs, and what serves: the latter has tests of its own, with the paths and processes of a server."""

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"# ([\w/]+\.py)\n")


@dataclass(frozen=True)
class Block:
    """What stands between two fences. `line` is that of its first line."""

    page: str
    language: str
    text: str
    line: int
    output: str | None
    """The text block that follows it at once: what it prints."""

    @property
    def file_name(self) -> str | None:
        """Named in its first line: then it is a file to be saved, not something to be pasted."""
        match = _FILE_NAME.match(self.text)
        return match[1] if match is not None else None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    text = (FOLDER / page).read_text()
    matches = list(_BLOCK.finditer(text))
    found: list[Block] = []
    for i, match in enumerate(matches):
        following = matches[i + 1] if i + 1 < len(matches) else None
        shown = (
            following is not None
            and following[1] == "text"
            and not text[match.end() : following.start()].strip()
        )
        found.append(
            Block(
                page,
                match[1],
                match[2],
                text.count("\n", 0, match.start(2)) + 1,
                following[2] if shown and following is not None else None,
            )
        )
    return found


def check_output(block: Block, expected: str, printed: str) -> None:
    """`…` stands for anything within a line."""
    pattern = re.escape(expected.strip("\n")).replace("…", ".*")
    assert re.fullmatch(pattern, printed.strip("\n")), f"{block} says\n{expected}\nand it prints\n{printed}"


class Reader:
    """Somebody who works through one page in an empty folder, with `python -m asyncio` open."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self.session = ModuleType("the_session_of_a_reader")

    @contextlib.contextmanager
    def at_work(self) -> Iterator[Reader]:
        """Its files can be imported, and what it defines can be found by pickle."""
        before = set(sys.modules)
        sys.path.insert(0, str(self.folder))
        sys.modules[self.session.__name__] = self.session
        try:
            yield self
        finally:
            sys.path.remove(str(self.folder))
            for name in set(sys.modules) - before:
                place = getattr(sys.modules[name], "__file__", None) or ""
                if name == self.session.__name__ or place.startswith(str(self.folder)):
                    del sys.modules[name]

    async def follow(self, block: Block) -> None:
        if block.language == "python" and block.file_name is not None:
            (self.folder / block.file_name).write_text(block.text)
        elif block.language == "python":
            await self.paste(block)
        elif block.language == "console":
            self.type(block)

    async def paste(self, block: Block) -> None:
        """As printed, with `await` allowed everywhere. Whatever it prints must be shown on the page."""
        source = "\n" * (block.line - 1) + block.text
        code = compile(source, block.page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            result = eval(code, vars(self.session))
            if inspect.iscoroutine(result):
                await result
        check_output(block, block.output or "", printed.getvalue())

    def type(self, block: Block) -> None:
        """Every command, and what the page shows below it, if it shows anything."""
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE):
            words = shlex.split(command, comments=True)
            if words[0] in NOT_TYPED:
                continue
            programs = {"python": [sys.executable], "docket": [sys.executable, "-m", "docket"]}
            done = subprocess.run(
                programs[words[0]] + words[1:],
                cwd=self.folder,
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, f"{block}: {command}\n{done.stderr}"
            if shown.strip():
                check_output(block, shown, done.stdout)
