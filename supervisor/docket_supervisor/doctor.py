"""The fork doctor: what importing the task modules has left in a process, and what that does to its children.

A fork copies memory and descriptors, and one thread. Every other thread is gone in the child, with the locks that it
held held for ever; a socket is one connection that several processes speak into; an event loop shares its selector.
"""

from __future__ import annotations

import builtins
import gc
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import psutil

from docket.descriptors import is_open

if TYPE_CHECKING:
    import asyncio

ADVICE = {
    "thread": "workers are forked without it, and with the locks that it holds at that moment",
    "socket": "every worker would speak into the same connection",
    "loop": "every worker would share its selector",
    "provider": "its exporting threads and connections do not survive the fork",
    "descriptor": "every program that a task starts inherits it",
}
_PROVIDERS = {
    "opentelemetry.trace": ("_TRACER_PROVIDER", "tracer provider"),
    "opentelemetry.metrics._internal": ("_METER_PROVIDER", "meter provider"),
    "opentelemetry._logs._internal": ("_LOGGER_PROVIDER", "logger provider"),
}


_LAST_MOMENT = 0.05


@dataclass(frozen=True)
class Finding:
    """`kind`: a key of ADVICE. `origin`: the import that did it, `""` if that cannot be told."""

    kind: str
    what: str
    origin: str = ""

    def __str__(self) -> str:
        return f"{self.what}, {self.origin}" if self.origin else self.what


REFUSED = "--strict-fork: no worker is forked from that"


def explained(findings: Sequence[Finding]) -> str:
    """For people: everything that was found, why it matters and what to do about it."""
    lines = [f"  {finding}: {ADVICE[finding.kind]}" for finding in findings]
    return "\n".join(
        [
            "importing the task modules has left what does not survive a fork:",
            *lines,
            "Make it in a task, a dependency or --worker-setup instead, or use --no-preload.",
        ]
    )


class Doctor:
    """Watches over imports: `with Doctor() as doctor: …`, then `doctor.findings()` in the same process.

    A `thorough` one looks after every single import, to tell which of them has opened a descriptor or started a thread
    outside Python. That is for a check: a service starts with the import statement that everybody knows.
    """

    def __init__(self, *, thorough: bool = False) -> None:
        self._thorough = thorough
        self._depth = 0
        self._last_importer = ""
        self._origins: dict[threading.Thread, str] = {}
        self._descriptors: dict[int, str] = {}
        self._natives: dict[int, str] = {}
        self._seen_descriptors = _descriptors()
        self._seen_natives = _natives()
        self._providers_before = list(_providers())
        self._before = frozenset(self._seen_descriptors)
        self._natives_before = frozenset(self._seen_natives)

    def __enter__(self) -> Self:
        self._start, self._import = threading.Thread.start, builtins.__import__
        threading.Thread.start = self._watched_start()  # pyright: ignore[reportAttributeAccessIssue]
        if self._thorough:
            builtins.__import__ = self._watched_import()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        threading.Thread.start = self._start
        if self._thorough:
            builtins.__import__ = self._import
            self._look(self._last_importer)

    def findings(self) -> list[Finding]:
        """What is there now and was not before; what an import has opened and closed again is no matter."""
        providers = (each for each in _providers() if each not in self._providers_before)
        return [*self._threads(), *self._sockets(), *_loops(), *providers, *self._inheritable()]

    # While modules are imported

    def _watched_start(self) -> Callable[[threading.Thread], None]:
        start, origins = self._start, self._origins

        def watched(self: threading.Thread) -> None:
            module, place = _executed(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
            if module:
                origins[self] = f"started by import {module} ({place})"
            start(self)

        return watched

    def _watched_import(self) -> Callable[..., Any]:
        """Before an import, what is new is the doing of the module that imports; after it, of the one imported."""
        original = self._import

        def watched(
            name: str,
            globals: Mapping[str, Any] | None = None,
            locals: Mapping[str, Any] | None = None,
            fromlist: Sequence[str] | None = (),
            level: int = 0,
        ) -> Any:
            importer, _ = _executed(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
            if level or name in sys.modules:
                imported = importer  # a neighbour in its package, or nothing that is executed now
            else:
                imported = name
            self._look(importer)
            self._depth += 1
            try:
                return original(name, globals, locals, fromlist, level)
            finally:
                self._depth -= 1
                if not self._depth:
                    self._last_importer = importer
                self._look(imported)

        return watched

    def _look(self, module: str) -> None:
        for descriptor in (now := _descriptors()) - self._seen_descriptors:
            self._descriptors[descriptor] = module and f"opened by import {module}"
        for native in (threads := _natives()) - self._seen_natives:
            self._natives[native] = module and f"started by import {module}"
        self._seen_descriptors, self._seen_natives = now, threads

    # Afterwards

    def _threads(self) -> Iterator[Finding]:
        main, known = threading.main_thread(), set[int]()
        for thread in threading.enumerate():
            if thread.native_id is not None:
                known.add(thread.native_id)
            if thread is not main and thread.native_id not in self._natives_before:
                yield Finding("thread", f"thread {thread.name}", self._origins.get(thread, ""))
        for native in sorted(_lasting(known | self._natives_before)):
            yield Finding("thread", f"thread {native} outside Python", self._natives.get(native, ""))

    def _sockets(self) -> Iterator[Finding]:
        connections = {each.fd: each for each in psutil.Process().net_connections("all")}
        of_loops = {end.fileno() for loop in _open_loops() for end in _self_pipe(loop)}
        for descriptor in sorted(_descriptors() - self._before):
            with suppress(OSError):
                path = os.readlink(f"/proc/self/fd/{descriptor}")
                if descriptor in of_loops or not path.startswith("socket:"):
                    continue
                found = connections.get(descriptor)
                yield Finding("socket", _described(descriptor, found), self._descriptors.get(descriptor, ""))

    def _inheritable(self) -> Iterator[Finding]:
        for descriptor in sorted(_descriptors() - self._before):
            with suppress(OSError):
                if os.get_inheritable(descriptor):
                    path = os.readlink(f"/proc/self/fd/{descriptor}")
                    what = f"inheritable descriptor {descriptor} ({path})"
                    yield Finding("descriptor", what, self._descriptors.get(descriptor, ""))


def _open_loops() -> list[asyncio.AbstractEventLoop]:
    events = sys.modules.get("asyncio.events")
    if events is None:  # nobody has loaded it, and the supervisor does not either
        return []
    # By their type: a proxy makes isinstance() execute whatever stands behind it.
    loops = [each for each in gc.get_objects() if issubclass(type(each), events.AbstractEventLoop)]
    return [loop for loop in loops if not loop.is_closed()]


def _self_pipe(loop: asyncio.AbstractEventLoop) -> list[socket.socket]:
    """With which asyncio wakes its loops: found with the loop, and not to be told apart from it."""
    return [end for name in ("_ssock", "_csock") if (end := getattr(loop, name, None)) is not None]


def _loops() -> Iterator[Finding]:
    for loop in _open_loops():
        state = "runs" if loop.is_running() else "is open"
        yield Finding("loop", f"an event loop of {type(loop).__module__.partition('.')[0]} {state}")


def _providers() -> Iterator[Finding]:
    """Read where OpenTelemetry keeps them: to ask for one may make one."""
    for module, (attribute, what) in _PROVIDERS.items():
        provider = getattr(sys.modules.get(module), attribute, None)
        if provider is not None:
            yield Finding("provider", f"OpenTelemetry {what} {type(provider).__name__}")


def _executed(frame: FrameType | None) -> tuple[str, str]:
    """The module that is being executed, and the line in it; empty if none is."""
    while frame is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    if frame is None:
        return "", ""
    return str(frame.f_globals.get("__name__", "?")), f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _described(descriptor: int, found: Any) -> str:
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        path = getattr(found, "laddr", "") or getattr(found, "raddr", "")
        return f"socket {descriptor}" + (f" ({path})" if path else "")
    ends = [f"{end.ip}:{end.port}" for end in (found.laddr, found.raddr) if end]
    return f"socket {descriptor} ({' to '.join(ends)})" if ends else f"socket {descriptor}"


def _lasting(known: Set[int]) -> set[int]:
    """Threads besides these. One that Python has seen off may take a moment to be gone: they are counted twice."""
    others = _natives() - known
    if others:
        time.sleep(_LAST_MOMENT)
    return others & _natives()


def _descriptors() -> set[int]:
    try:
        listed = [int(name) for name in os.listdir("/proc/self/fd")]
    except FileNotFoundError:  # no such file system: only what Python knows of can be named
        return set()
    # That with which the list itself was read is closed by now.
    return {descriptor for descriptor in listed if is_open(descriptor)}


def _natives() -> set[int]:
    try:
        return {int(path.name) for path in Path("/proc/self/task").iterdir()}
    except FileNotFoundError:
        return {thread.native_id for thread in threading.enumerate() if thread.native_id is not None}
