"""`docket watch KEY`: one execution, live until its end."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from docket import Docket as AsyncDocket
from docket import Progress, Worker, clock
from docket.cli.watch import Picture, progress_line
from docket.sync import Docket
from tests.cli.conftest import ROOT, Answer, Running, variables


async def fill(progress: Any = Progress()) -> None:
    await progress.set_total(100)
    await progress.increment(60)
    await progress.set_message("Processing records...")


async def spoil() -> None:
    raise ValueError("on purpose")


def work_off(name: str, url: str, *tasks: Any) -> None:
    async def work() -> None:
        async with AsyncDocket(name, url) as docket:
            for task in tasks:
                docket.register(task)
            async with Worker(docket, name="worker-1") as worker:
                await worker.run_until_finished()

    asyncio.run(work())


def following(client: Docket, within: float = 10) -> None:
    """Returns when somebody follows an execution of this docket."""
    give_up_at = clock.monotonic() + within
    with client.redis() as redis:
        while not redis.execute_command("PUBSUB", "CHANNELS", f"{client.name}:state:*"):
            assert clock.monotonic() < give_up_at


def local(moment: datetime | None) -> str:
    assert moment is not None
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def test_an_unknown_key_is_one_line_and_exit_4(ask: Answer, docket_name: str) -> None:
    assert ask("watch", "nothing") == (
        4,
        "",
        f"docket: there is no execution 'nothing' in docket '{docket_name}'\n",
    )


@pytest.mark.parametrize(
    ("task", "code", "state"), [("trace", 0, "COMPLETED (worker-1)"), ("spoil", 1, "FAILED (worker-1)")]
)
def test_what_has_ended_is_shown_at_once(
    ask: Answer, client: Docket, docket_name: str, redis_url: str, task: str, code: int, state: str
) -> None:
    client.register(spoil)
    execution = client.add(task, key="k")(*(["x"] if task == "trace" else []))
    work_off(docket_name, redis_url, spoil)
    execution.sync()
    lines = [
        f"State: {state}",
        f"Started: {local(execution.started_at)}",
        f"Ended: {local(execution.completed_at)}",
    ]
    if code:
        lines.append("Error: ValueError: on purpose")
    assert ask("watch", "k") == (code, "\n".join(lines) + "\n", "")


def test_cancelled_is_exit_3(ask: Answer, client: Docket) -> None:
    client.add("trace", key="k")("x")
    client.cancel("k")
    code, told, _ = ask("watch", "k")
    assert (code, told.splitlines()[0]) == (3, "State: CANCELLED")


def test_it_is_live_until_the_end(
    start: Callable[..., Running], client: Docket, docket_name: str, redis_url: str
) -> None:
    """Into a pipe, every change is a line, in the documented form."""
    client.register(fill)
    execution = client.add("fill", key="k")()
    watching = start("watch", "k")
    following(client)
    watching.says("State: QUEUED\n")
    work_off(docket_name, redis_url, fill)
    assert watching.ends() == 0
    execution.sync()
    told = [line for line in watching.log.splitlines() if not line.startswith("Updated: ")]
    assert told == [
        "State: QUEUED",
        "State: RUNNING (worker-1)",
        f"Started: {local(execution.started_at)}",
        "Progress: [░░░░░░░░░░░░░░░░░░░░] 0/100 (0.0%)",
        "Progress: [████████████░░░░░░░░] 60/100 (60.0%)",
        "Message: Processing records...",
        "State: COMPLETED (worker-1)",
        f"Ended: {local(execution.completed_at)}",
    ]
    assert "Updated: 20" in watching.log


def test_json_is_an_event_a_line(
    start: Callable[..., Running], client: Docket, docket_name: str, redis_url: str
) -> None:
    client.register(fill)
    client.add("fill", key="k")()
    watching = start("watch", "k", "--json")
    following(client)
    watching.says('"current": 0')
    work_off(docket_name, redis_url, fill)
    assert watching.ends() == 0
    events = [json.loads(line) for line in watching.log.splitlines()]
    assert [event.get("state", event.get("current")) for event in events] == [
        "queued",
        0,
        "running",
        0,
        60,
        60,
        "completed",
    ]
    assert events[0].keys() == {
        "type", "key", "state", "when", "worker", "started_at", "completed_at", "error",
    }  # fmt: skip


def test_on_a_terminal_it_is_redrawn_in_place(
    client: Docket, docket_name: str, redis_url: str, tmp_path: Path
) -> None:
    client.register(fill)
    client.add("fill", key="k")()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "docket", "watch", "k"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=tmp_path,
        env=variables(DOCKET_NAME=docket_name, DOCKET_URL=redis_url, TERM="xterm", COLUMNS="100"),
    )
    os.close(theirs)
    screen = bytearray()

    def read() -> None:
        try:
            while part := os.read(ours, 4096):
                screen.extend(part)
        except OSError:
            pass  # the other side is closed

    reading = threading.Thread(target=read)
    reading.start()
    following(client)
    work_off(docket_name, redis_url, fill)
    assert process.wait(20) == 0
    reading.join(10)
    os.close(ours)
    shown = screen.decode()
    assert "\x1b[" in shown and "State: QUEUED" in shown
    last = shown[shown.rindex("State:") :]
    assert "COMPLETED (worker-1)" in last
    assert "[████████████░░░░░░░░] 60/100 (60.0%)" in last and "Processing records..." in last


@pytest.mark.parametrize("kind", ["memory", "embedded"])
def test_it_works_on_a_server_of_our_own(invoke: Answer, kind: str, short_folder: Path) -> None:
    url = f"memory://{short_folder.name}" if kind == "memory" else f"embedded://{short_folder}/data"
    with Docket("docket", url) as docket:
        docket.register(fill)
        docket.add("fill", key="k")()
        work = threading.Thread(target=lambda: (following(docket), work_off("docket", url, fill)))
        work.start()
        code, told, trouble = invoke("watch", "k", "--url", url)
        work.join(10)
    assert (code, trouble) == (0, "")
    assert "60/100 (60.0%)" in told and told.splitlines()[-1].startswith("Ended: ")


@pytest.mark.parametrize(
    ("url", "code", "sentence"),
    [
        ("http://localhost", 2, "expected a URL that begins with redis://"),
        ("redis://me:secret@localhost:1", 1, "cannot reach Redis at redis://***@localhost:1"),
    ],
)
def test_trouble_is_one_line(invoke: Answer, url: str, code: int, sentence: str) -> None:
    got, told, line = invoke("watch", "k", "--url", url)
    assert (got, told) == (code, "")
    assert sentence in line and line.count("\n") == 1 and "secret" not in line


def test_help_tells_the_exit_codes(invoke: Answer) -> None:
    code, told, _ = invoke("watch", "--help", COLUMNS="200")
    told = " ".join(told.split())
    assert code == 0
    for word in (
        "DOCKET_NAME",
        "DOCKET_URL",
        "--json",
        "3 if it was cancelled",
        "4 if there is no such execution",
    ):
        assert word in told


def test_what_keeps_nothing_cannot_be_watched(ask: Answer, docket_name: str, redis_url: str) -> None:
    with Docket(docket_name, redis_url, execution_ttl=timedelta(0)) as docket:
        docket.add("trace", key="k")("x")
        code, told, line = ask("watch", "k")
        assert (code, told) == (4, "") and "execution_ttl=0" in line
        docket.clear()


def test_keys_messages_and_errors_cannot_touch_the_terminal() -> None:
    picture = Picture()
    report: Any = {
        "type": "progress",
        "key": "k",
        "current": 1,
        "total": 2,
        "updated_at": "2025-01-15T10:30:10Z",
    }
    report["message"] = "\x1b[2J hi"
    assert "Message: \\x1b[2J hi" in picture.changed_by(report)
    report["message"] = None
    assert picture.changed_by(report) == []
    assert not any(line.startswith("Message") for line in picture.lines)


@pytest.mark.parametrize(
    ("current", "total", "line"),
    [
        (0, 100, "[░░░░░░░░░░░░░░░░░░░░] 0/100 (0.0%)"),
        (60, 100, "[████████████░░░░░░░░] 60/100 (60.0%)"),
        (1, 3, "[██████░░░░░░░░░░░░░░] 1/3 (33.3%)"),
        (5, 4, "[████████████████████] 5/4 (125.0%)"),
    ],
)
def test_the_bar(current: int, total: int, line: str) -> None:
    assert progress_line(current, total) == line


def test_a_terminal_without_blocks_gets_a_plain_bar(tmp_path: Path) -> None:
    code = "from docket.cli.watch import progress_line; print(progress_line(1, 2))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=variables(PYTHONIOENCODING="ascii"),
        timeout=60,
    )
    assert done.stdout == "[##########----------] 1/2 (50.0%)\n"
