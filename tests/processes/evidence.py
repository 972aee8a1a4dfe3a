"""Tasks that write down what they do into a file of the test's own: the broker is never asked for evidence."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import prometheus_client

from docket.dependencies import ConcurrencyLimit, Retry, TaskKey, Timeout
from docket.interruption import shield

VARIABLE = "DOCKET_TEST_EVIDENCE"


def write(event: str, key: str, **more: Any) -> None:
    """One line in one write, so that processes do not mix theirs."""
    line = {
        "event": event,
        "key": key,
        "pid": os.getpid(),
        "at": time.monotonic(),
        "thread": threading.current_thread() is not threading.main_thread(),
        **more,
    }
    with open(os.environ[VARIABLE], "a") as evidence:
        evidence.write(json.dumps(line) + "\n")


@contextmanager
def running(key: str) -> Generator[None, None, None]:
    write("began", key)
    try:
        yield
    except BaseException:
        write("stopped", key)
        raise
    write("ended", key)


async def note(key: str = TaskKey()) -> None:
    with running(key):
        pass


def note_sync(key: str = TaskKey()) -> None:
    with running(key):
        pass


async def wait(seconds: float, key: str = TaskKey()) -> str:
    with running(key):
        await asyncio.sleep(seconds)
    return f"{os.getpid()}"


def wait_sync(seconds: float, key: str = TaskKey()) -> str:
    with running(key):
        time.sleep(seconds)
    return f"{os.getpid()}"


async def wait_for(path: str, key: str = TaskKey()) -> str:
    """Until there is such a file."""
    with running(key):
        while not Path(path).exists():
            await asyncio.sleep(0.01)
    return f"{os.getpid()}"


def wait_for_sync(path: str, key: str = TaskKey()) -> str:
    with running(key):
        while not Path(path).exists():
            time.sleep(0.01)
    return f"{os.getpid()}"


async def block_the_loop(seconds: float, key: str = TaskKey()) -> None:
    with running(key):
        time.sleep(seconds)


async def wait_then_block(path: str, seconds: float, key: str = TaskKey()) -> None:
    with running(key):
        while not Path(path).exists():
            await asyncio.sleep(0.01)
        time.sleep(seconds)


async def match_for_ever(key: str = TaskKey()) -> None:
    """One call into C that holds the interpreter lock."""
    with running(key):
        re.match(r"(a+)+$", "a" * 64 + "b")


def sleep_on(path: str, key: str = TaskKey()) -> None:
    """Cannot be interrupted while it sleeps, which it does for long unless there is such a file."""
    with running(key):
        if not Path(path).exists():
            time.sleep(3600)


SECOND = timedelta(seconds=1)


def sleep_for_ever_within_a_second(key: str = TaskKey(), limit: Timeout = Timeout(SECOND)) -> None:
    with running(key):
        time.sleep(3600)


def match_for_ever_within_a_second(key: str = TaskKey(), limit: Timeout = Timeout(SECOND)) -> None:
    with running(key):
        re.match(r"(a+)+$", "a" * 64 + "b")


def sleep_for_ever_twice(
    key: str = TaskKey(), limit: Timeout = Timeout(SECOND), retry: Retry = Retry(attempts=2)
) -> None:
    with running(key):
        time.sleep(3600)


async def block_for_ever_within_a_second(key: str = TaskKey(), limit: Timeout = Timeout(SECOND)) -> None:
    with running(key):
        time.sleep(3600)


def shield_for_a_while_within_a_second(key: str = TaskKey(), limit: Timeout = Timeout(SECOND)) -> None:
    """Ends by itself, after its limit and before the grace that follows it is over."""
    with running(key):
        with shield():
            time.sleep(2)
            write("kept whole", key)
        time.sleep(3600)


async def exit_at_once(key: str = TaskKey()) -> None:
    with running(key):
        os._exit(1)


def exit_unless(path: str, key: str = TaskKey()) -> None:
    with running(key):
        if not Path(path).exists():
            os._exit(1)


def exit_at_once_sync(key: str = TaskKey()) -> None:
    with running(key):
        os._exit(1)


def segfault(key: str = TaskKey()) -> None:
    with running(key):
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(10)


def start_a_program(path: str, key: str = TaskKey()) -> None:
    """One that does not end by itself, and waits for it as long as there is no such file."""
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    write("program", key, program=program.pid)
    while not Path(path).exists():
        time.sleep(0.01)


async def three_at_once(
    seconds: float, key: str = TaskKey(), limit: ConcurrencyLimit = ConcurrencyLimit(max_concurrent=3)
) -> None:
    with running(key):
        await asyncio.sleep(seconds)


def one_at_once(
    seconds: float, key: str = TaskKey(), limit: ConcurrencyLimit = ConcurrencyLimit(max_concurrent=1)
) -> None:
    with running(key):
        time.sleep(seconds)


async def environment(key: str = TaskKey()) -> str:
    """The names of the variables that this process has, and those of a program that it starts."""
    with running(key):
        program = "import json, os; print(json.dumps(list(os.environ)))"
        started = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        return json.dumps({"ours": list(os.environ), "program's": json.loads(started.stdout)})


mails = prometheus_client.Counter("test_mails", "A metric of the application's own.", ["kind"])
workers_here = prometheus_client.Gauge("test_here", "The same.", multiprocess_mode="livesum")


def exit_on_setup() -> None:
    raise RuntimeError("no exporter here")


loaded_at_fork: set[str] = set()
os.register_at_fork(after_in_child=lambda: (loaded_at_fork.clear(), loaded_at_fork.update(sys.modules)))


async def loaded_since(key: str = TaskKey()) -> str:
    """The modules that this process has loaded for itself."""
    with running(key):
        return " ".join(sorted(sys.modules.keys() - loaded_at_fork))


async def count(key: str = TaskKey()) -> None:
    mails.labels("order").inc()
    workers_here.set(1)
    with running(key):
        pass


held: list[bytearray] = []


def hold_memory(megabytes: int, key: str = TaskKey()) -> None:
    """For as long as the process lives."""
    with running(key):
        held.append(bytearray(b"x" * (megabytes << 20)))


tasks = [
    loaded_since,
    hold_memory,
    count,
    three_at_once,
    one_at_once,
    environment,
    note,
    note_sync,
    wait,
    wait_sync,
    wait_for,
    wait_for_sync,
    block_the_loop,
    wait_then_block,
    sleep_on,
    match_for_ever,
    sleep_for_ever_within_a_second,
    match_for_ever_within_a_second,
    sleep_for_ever_twice,
    block_for_ever_within_a_second,
    shield_for_a_while_within_a_second,
    exit_at_once,
    exit_at_once_sync,
    exit_unless,
    segfault,
    start_a_program,
]

of_a_split_docket = [task for task in tasks if task not in (three_at_once, one_at_once)]
"""Those without limits."""
