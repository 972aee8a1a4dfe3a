"""What a stack tells: which execution it belongs to, and which line of the application it stands at.

Read in two ways: as frames by a thread of the same process, or as the text of `faulthandler`, which is written even
while a C call holds the interpreter lock. A text has no objects in it, so an execution is known by the *name* of its
outermost frame: the runtime runs each of its places under a function that is named after it.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType, FrameType

_PLACE = "execution in place "
TASKS = "asyncio tasks"
"""How the lines begin that follow the threads in a dump of ours."""

_WRITER = os.path.join("docket_runtime", "dumping.py")
_THREAD = re.compile(r"^(?:Current thread|Thread) (0x[0-9a-f]+)")
_FRAME = re.compile(r'^\s+File "(?P<file>.*)", line (?P<line>\d+|\?\?\?) in (?P<name>.*)$')


@dataclass(frozen=True, slots=True)
class Frame:
    file: str
    line: int
    name: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


Stack = Sequence[Frame]
"""Innermost frame first."""


@functools.lru_cache(maxsize=4096)
def in_place(code: CodeType, place: int) -> CodeType:
    """The same code under the name by which `place_of` knows it. Costs nothing when it runs."""
    name = f"{_PLACE}{place}"
    return code.replace(co_name=name, co_qualname=name)


def place_of(stack: Stack) -> int | None:
    """The place of the worker whose execution this is; None if it is none, or cut off (only 100 frames are written)."""
    for frame in reversed(stack):
        if frame.name.startswith(_PLACE):
            return int(frame.name.removeprefix(_PLACE))
    return None


def inside(stack: Stack) -> Stack:
    """Of an execution's stack what it has called; the whole stack if it is none's."""
    return stack[: next((at for at, frame in enumerate(stack) if frame.name.startswith(_PLACE)), len(stack))]


def without_ours(stack: Stack) -> Stack:
    """Of an execution's stack what it did itself, without all that led to it."""
    inner = list(inside(stack))
    while inner and inner[-1].file.startswith(_ours()):
        del inner[-1]
    return inner or stack


def live(frame: FrameType | None) -> list[Frame]:
    """The stack that ends in this frame."""
    stack: list[Frame] = []
    while frame is not None:
        stack.append(Frame(frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name))
        frame = frame.f_back
    return stack


def parse(text: str) -> list[Stack]:
    """The stacks of all threads in a dump of `faulthandler`; of several dumps, those of the last. The main thread's is
    the last one: the interpreter lists its threads newest first. Whoever wrote the dump is not shown in it."""
    stacks: dict[str, list[Frame]] = {}
    current: list[Frame] | None = None
    for line in text.splitlines():
        if header := _THREAD.match(line):
            if header[1] in stacks:
                stacks = {}
            current = stacks[header[1]] = []
        elif line.startswith(TASKS):
            current = None
        elif current is not None and (found := _FRAME.match(line)):
            if not current and found["file"].endswith(_WRITER):
                continue
            number = int(found["line"]) if found["line"].isdecimal() else 0
            current.append(Frame(found["file"], number, found["name"]))
    return list(stacks.values())


def waiting(text: str, name: str) -> Stack:
    """Where the asyncio task of this name waits, by the part of a dump that follows its threads."""
    found: list[Frame] = []
    within = False
    for line in text.partition(f"\n{TASKS}")[2].splitlines():
        frame = _FRAME.match(line)
        if frame is None:
            within = line == f"  {name}:"
        elif within:
            found.append(Frame(frame["file"], int(frame["line"]), frame["name"]))
    return found


def application_frame(stack: Stack) -> Frame | None:
    """The innermost line that the application's authors wrote: a wait inside a library tells them less than their call
    of it. Of an application that is itself installed as a package, the innermost line outside the standard library."""
    frames = [frame for frame in stack if not frame.file.startswith(_ours())]
    return min(frames, key=lambda frame: _distance(frame.file), default=None)


def is_standard(frame: Frame) -> bool:
    """A line of the standard library, which nobody wrote who could mend it."""
    return _distance(frame.file) == _FARTHEST


_FARTHEST = 3


def _distance(file: str) -> int:
    """From the application's own source: none, that of an installed package, what has no file (a generated method, what
    was typed into an interpreter), that of the standard library."""
    standard, installed = _libraries()
    if file.startswith(installed):
        return 1
    if file.startswith(("<frozen ", *standard)):
        return _FARTHEST
    return 2 if file.startswith("<") else 0


@functools.cache
def _libraries() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The folders of the standard library, and those of installed packages, which mostly lie within the former."""
    paths = sysconfig.get_paths()
    return _folders(paths["stdlib"], paths["platstdlib"]), _folders(paths["purelib"], paths["platlib"])


def _ours() -> tuple[str, ...]:
    packages = (sys.modules.get(name) for name in ("docket", "docket_runtime", "docket_supervisor"))
    return _folders(*(folder for package in packages if package for folder in package.__path__))


def _folders(*paths: str) -> tuple[str, ...]:
    """As they are named and where they really are, each ended by a separator."""
    return tuple({os.path.join(path, "") for one in paths for path in (one, os.path.realpath(one))})
