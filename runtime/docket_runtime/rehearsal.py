"""A worker's whole life is played through, against a Redis that knows its lines, so that none need be warmed up again.

In a process from which workers are forked this is done once for all of them. Caches are filled, and code is adapted by
the interpreter to what it meets (PEP 659), which writes into it; every worker would do that on a copy of its own.
Nothing is left open, no thread is left behind, and no task of the application is run.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import threading
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any, cast, get_args

import hiredis

from docket import clock
from docket.docket import Docket
from docket.settings import DocketSettings
from docket.store import scripts
from docket.tasks import trace
from docket.telemetry import header, metering, tracing
from docket_runtime.settings import WorkerSettings
from docket_runtime.surroundings import Surroundings
from docket_runtime.worker import Worker

_LOG = logging.getLogger("docket.worker")

_TIMES = 2
"""The second time code is adapted that ran once in the first."""
_RUNS = 20
_PATIENCE = 5.0
_THREADS_PATIENCE = 1.0
_ROW = len(get_args(scripts.Row))
"""Arguments for each call that is to be scheduled; automatic tasks are added as soon as a worker has joined."""


def rehearse(docket: DocketSettings, worker: WorkerSettings) -> bool:
    """True if a worker with these settings has joined, run something and left, twice. It is not told to the log.

    The tasks are registered and not run, and what else is the application's is not called. Whatever goes wrong, the
    only consequence is that workers share less. Not where metrics or traces are kept: nobody's runs would be in them.
    """
    if metering() or tracing():
        return False
    silenced, threads = logging.root.manager.disable, set(threading.enumerate())
    logging.disable(logging.CRITICAL)
    problem: Exception | None = None
    try:
        with tempfile.TemporaryDirectory(prefix="docket-", ignore_cleanup_errors=True) as folder:
            for _ in range(_TIMES):
                _run(_play(docket, worker, os.path.join(folder, "redis")))
    except Exception as error:  # what is registered is the application's, and may raise anything
        problem = error
    finally:
        logging.disable(silenced)
        _see_off(set(threading.enumerate()) - threads)
    if problem is not None:
        _LOG.debug("the rehearsal failed, so workers share less memory: %r", problem)
    return problem is None


def _run(play: Coroutine[Any, Any, None]) -> None:
    """Not `asyncio.run`: after it the main thread has no current event loop, which an application may ask for."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(play)
    finally:
        loop.run_until_complete(_clear_away())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def _play(docket: DocketSettings, worker: WorkerSettings, path: str) -> None:
    settings = replace(docket, name="rehearsal", url=f"unix://{path}", partitions=1)
    opened = Docket.from_settings(settings)
    for reference in worker.tasks:
        opened.register_collection(reference)
    prompter = Prompter(opened)
    async with asyncio.timeout(_PATIENCE), await asyncio.start_unix_server(prompter.converse, path), opened:
        surroundings = Surroundings(vouched=lambda: True)
        async with Worker(
            opened, concurrency=worker.concurrency, drain_timeout=timedelta(0), surroundings=surroundings
        ) as played:
            await played.run_until_finished()


async def _clear_away() -> None:
    """Also of a play that was cut short nothing may be left, for others are forked from this process."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for each in left:
        each.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def _see_off(threads: Iterable[threading.Thread]) -> None:
    """They were told to end; a process that forks must have seen it."""
    give_up_at = clock.monotonic() + _THREADS_PATIENCE
    for thread in threads:
        thread.join(max(0.0, give_up_at - clock.monotonic()))


class Prompter:
    """Redis, as far as a worker needs one that is given a few runs of `trace`, and then nothing."""

    def __init__(self, docket: Docket) -> None:
        self._docket = docket
        self._left = _RUNS
        self._numbers = count(1)
        self._blocked: asyncio.StreamWriter | None = None
        self._behind: list[Any] = []
        """Replies to what was sent behind the blocked read."""
        self._scripts = {script.sha.encode(): script.name for script in scripts.ALL}

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        try:
            while chunk := await reader.read(65536):
                parser.feed(chunk)
                while isinstance(request := parser.gets(), list):
                    self._answer(cast("list[bytes]", request), writer)
        except OSError:
            pass
        finally:
            writer.close()

    def _answer(self, request: list[bytes], writer: asyncio.StreamWriter) -> None:
        match [each.upper() for each in request[:2]]:
            case [b"EVALSHA" | b"EVAL", _]:
                told = self._told_by_script(self._scripts.get(request[1], ""), request[4:])
                if writer is self._blocked:
                    self._behind.append(told)
                else:
                    writer.write(encoded(told))
            case [b"SUBSCRIBE", _]:
                for number, channel in enumerate(request[1:], 1):
                    writer.write(encoded([b"subscribe", channel, number]))
            case [b"XREADGROUP", _]:
                self._blocked = writer
            case [b"CLIENT", b"UNBLOCK"]:
                blocked, self._blocked = self._blocked, None
                if blocked is not None:
                    blocked.write(b"".join(map(encoded, [None, *self._behind])))
                    self._behind.clear()
                writer.write(encoded(1))
            case [b"GET", _]:
                writer.write(encoded(None))
            case [b"CLIENT", b"ID"]:
                writer.write(encoded(1))
            case _:
                writer.write(b"+OK\r\n")

    def _told_by_script(self, name: str, arguments: Sequence[bytes]) -> Any:
        match name:
            case "exchange":
                return self._exchanged(free=int(arguments[2]), settled=int(arguments[6]))
            case "renew":
                return [1] * (len(arguments) - 2)
            case "hand_over":
                return [arguments[1], 0, 0, []]
            case "strikes":
                return [b"", []]
            case "recover":
                return [0, []]
            case "accept":
                return [0, [], 0, b""]
            case "enlist":
                return [0, 0]
            case "schedule":
                return [[b"scheduled", b"1", b"queued", _now()]] * ((len(arguments) - 2) // _ROW)
            case _:
                return 0

    def _exchanged(self, free: int, settled: int) -> list[Any]:
        given = min(free, self._left)
        rows: list[Any] = []
        for _ in range(given):
            rows += self._claim()
        self._left -= given
        return [0, _now(), None, 1, self._left + given, [1] * settled, rows, b""]

    def _claim(self) -> list[Any]:
        number = str(next(self._numbers))
        core = self._docket.core
        body = core.body_of(core.call(core.prepare(trace, None, number), ("rehearsal",), {}), header())
        fields = (f"d:1-{number}", number, trace.__name__, body, _now(), "1")
        nothing_kept = [None, None, None, b"0", None]
        return [*(each if isinstance(each, bytes) else each.encode() for each in fields), None, nothing_kept]


def _now() -> bytes:
    return str(clock.to_us(clock.now())).encode()


def encoded(reply: Any) -> bytes:
    """As Redis writes it."""
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%s\r\n" % (len(reply), reply)
    return b"*%d\r\n%s" % (len(reply), b"".join(map(encoded, reply)))
