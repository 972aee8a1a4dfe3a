"""The fork doctor: what an import leaves in its process is found, named, and traced to the import.

Each case is looked at in a process of its own, since what it leaves must not stay in this one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.supervisor.service import ROOT, source_path

PROGRAM = """
import json, sys
from docket_supervisor.doctor import Doctor
from docket_supervisor.loading import LoadFailed, load
with Doctor(thorough="thorough" in sys.argv) as doctor:
    load(["shop:tasks"], ".")
print(json.dumps([[found.kind, found.what, found.origin] for found in doctor.findings()]))
"""
END = "\ntasks = [print]\n"


@pytest.fixture
def examine(tmp_path: Path):
    def examined(module: str, *arguments: str, **others: str) -> list[list[str]]:
        for name, text in {"shop": module + END, **others}.items():
            (tmp_path / f"{name}.py").write_text(text)
        told = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"PYTHONPATH": source_path()},
            timeout=60,
        )
        assert told.returncode == 0, told.stderr
        return json.loads(told.stdout)

    return examined


def test_a_module_that_does_nothing_leaves_nothing(examine) -> None:
    assert examine("import asyncio, json, socket, threading, docket") == []
    assert examine("import asyncio, json, socket, threading, docket", "thorough") == []


def test_a_thread_is_named_with_the_line_that_started_it(examine) -> None:
    ((kind, what, origin),) = examine(
        "import helper\n\nhelper.begin()",
        helper="import threading, time\ndef begin():\n"
        "    threading.Thread(target=time.sleep, args=(60,), daemon=True, name='refresher').start()\n",
    )
    assert (kind, what) == ("thread", "thread refresher")
    assert origin.startswith("started by import shop (") and origin.endswith("shop.py:3)")


def test_a_thread_is_traced_to_the_import_within_the_import(examine) -> None:
    ((_, _, origin),) = examine(
        "import helper",
        helper="import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n",
    )
    assert origin.startswith("started by import helper (")


def test_a_thread_that_has_ended_is_no_matter(examine) -> None:
    ended = (
        "import threading\nthread = threading.Thread(target=len, args=('',))\nthread.start()\nthread.join()"
    )
    assert examine(ended) == []


def test_a_thread_outside_python_is_found_and_traced(examine) -> None:
    """What a C library does: a thread that Python's own list does not know."""
    native = (
        "import ctypes, json.tool\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, libc.pause, None)\n"
        "import json.decoder\n"
    )
    ((kind, what, origin),) = examine("import helper", "thorough", helper=native)
    assert kind == "thread" and what.endswith("outside Python")
    assert origin == "started by import helper"
    ((kind, what, origin),) = examine("import helper", helper=native)
    assert (kind, origin) == ("thread", "")


def test_an_open_socket_is_found_with_both_its_ends(examine) -> None:
    ((kind, what, origin),) = examine(
        "import socket\nlistener = socket.create_server(('127.0.0.1', 0))", "thorough"
    )
    assert (kind, origin) == ("socket", "opened by import shop")
    assert "127.0.0.1:" in what
    found = examine(
        "import socket\nlistener = socket.create_server(('127.0.0.1', 0))\n"
        "client = socket.create_connection(listener.getsockname())"
    )
    assert len(found) == 2 and " to 127.0.0.1:" in found[1][1]


@pytest.mark.parametrize("library", ["asyncio", "uvloop"])
def test_an_event_loop_is_found_once_and_not_by_its_sockets(library: str, examine) -> None:
    ((kind, what, _),) = examine(f"import {library}\nloop = {library}.new_event_loop()")
    assert (kind, what) == ("loop", f"an event loop of {library} is open")


def test_a_running_loop_is_found_with_its_thread(examine) -> None:
    found = examine(
        "import asyncio, threading\nloop = asyncio.new_event_loop()\nready = threading.Event()\n"
        "loop.call_soon(ready.set)\n"
        "threading.Thread(target=loop.run_forever, daemon=True).start()\nready.wait()"
    )
    assert [kind for kind, _, _ in found] == ["thread", "loop"]
    assert found[1][1] == "an event loop of asyncio runs"


def test_a_closed_loop_is_no_matter(examine) -> None:
    assert examine("import asyncio\nasyncio.run(asyncio.sleep(0))") == []


def test_a_provider_of_opentelemetry_is_found(examine) -> None:
    pytest.importorskip("opentelemetry.sdk")
    found = examine(
        "from opentelemetry import metrics, trace\n"
        "from opentelemetry.sdk.metrics import MeterProvider\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "trace.set_tracer_provider(TracerProvider())\n"
        "metrics.set_meter_provider(MeterProvider())"
    )
    assert [(kind, what) for kind, what, _ in found] == [
        ("provider", "OpenTelemetry tracer provider TracerProvider"),
        ("provider", "OpenTelemetry meter provider MeterProvider"),
    ]


def test_the_api_of_opentelemetry_alone_is_no_provider(examine) -> None:
    pytest.importorskip("opentelemetry")
    assert examine("from opentelemetry import trace\ntracer = trace.get_tracer(__name__)") == []


def test_an_inheritable_descriptor_is_found_and_an_ordinary_file_is_not(examine, tmp_path: Path) -> None:
    ((kind, what, origin),) = examine(
        "import os\nplain = open('shop.py')\nfile = open('shop.py')\nos.set_inheritable(file.fileno(), True)",
        "thorough",
    )
    assert (kind, origin) == ("descriptor", "opened by import shop")
    assert what.startswith("inheritable descriptor ") and what.endswith(f"({tmp_path / 'shop.py'})")


def test_a_failed_import_tells_its_own_frames_only(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("import helper" + END)
    (tmp_path / "helper.py").write_text("raise RuntimeError('no')\n")
    told = subprocess.run(
        [sys.executable, "-m", "docket_supervisor", "--tasks", "shop:tasks", "--check"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": source_path()},
        timeout=60,
    )
    assert told.returncode == 3
    assert "helper.py" in told.stderr and "shop.py" in told.stderr
    assert "doctor.py" not in told.stderr and str(ROOT / "supervisor") not in told.stderr


SICK = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True, name='refresher').start()"


@pytest.mark.parametrize(
    ("options", "code", "said", "unsaid"),
    [
        ([], 0, ["thread refresher, started by import shop", "ok: docket"], ["no worker is forked"]),
        (
            ["--strict-fork"],
            2,
            ["thread refresher", "--strict-fork: no worker is forked from that"],
            ["ok: docket"],
        ),
        (["--strict-fork", "--no-preload"], 0, ["ok: docket"], ["refresher"]),
    ],
)
def test_a_check_tells_what_is_found_and_a_strict_one_refuses(
    options: list[str], code: int, said: list[str], unsaid: list[str], tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(SICK + END)
    told = subprocess.run(
        [sys.executable, "-m", "docket_supervisor", "--tasks", "shop:tasks", "--check", *options],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": source_path()},
        timeout=60,
    )
    assert told.returncode == code, told.stderr
    assert all(each in told.stderr for each in said), told.stderr
    assert not any(each in told.stderr for each in unsaid), told.stderr


def test_a_check_shows_what_a_worker_shares_and_what_it_has_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("big = list(range(2_000_000))" + END)
    told = subprocess.run(
        [sys.executable, "-m", "docket_supervisor", "--tasks", "shop:tasks", "--check"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": source_path()},
        timeout=60,
    )
    (line,) = [line for line in told.stderr.splitlines() if line.startswith("memory of a worker")]
    shared, private = (float(word) for word in line.replace(",", "").split() if word[0].isdigit())
    assert shared > 60 and private < 30, line
