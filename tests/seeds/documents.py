"""The examples of the seed documents, found by their heading and run as printed.

What an example leaves to its reader (imports, the functions it calls, an open docket) is given by the test as names;
what cannot be run as printed is changed by a test where everybody sees it.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
README = "package-readme.txt"
PATTERNS = "advanced-patterns.md"

_HEADING_OR_BLOCK = re.compile(r"^(#+) ([^\n]+)$|^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """The `number`-th Python example under a heading, counted from 1."""

    document: str
    heading: str
    number: int
    code: str

    async def run(self, names: dict[str, Any]) -> dict[str, Any]:
        """As printed, with `await` outside of functions allowed; `names` are what it finds, and get what it defines."""
        names.setdefault("__name__", "examples")
        code = compile(self.code, f"{self.document}: {self.heading}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, names)
        if inspect.iscoroutine(result):
            await result
        return names

    def changed(self, old: str, new: str) -> Example:
        """For what cannot run as printed. `old` must be there."""
        assert old in self.code
        return Example(self.document, self.heading, self.number, self.code.replace(old, new))


def examples(document: str) -> Iterator[Example]:
    heading, count = "", 0
    for match in _HEADING_OR_BLOCK.finditer((FOLDER / document).read_text()):
        if match[1]:
            heading, count = match[2], 0
        elif match[3] == "python":
            count += 1
            yield Example(document, heading, count, match[4])


def example(document: str, heading: str, number: int = 1) -> Example:
    (found,) = [one for one in examples(document) if (one.heading, one.number) == (heading, number)]
    return found


def imports(**more: Any) -> dict[str, Any]:
    """The imports that the documents take for granted."""
    import docket

    names: dict[str, Any] = {
        "datetime": datetime,
        "timedelta": timedelta,
        "timezone": timezone,
        "Path": Path,
        "Docket": docket.Docket,
        "Worker": docket.Worker,
        "CurrentDocket": docket.CurrentDocket,
    }
    return names | more
