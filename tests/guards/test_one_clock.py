"""Time is read in `docket/clock.py` and nowhere else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.guards.tree import REPOSITORY, aliases, dotted, modules, plant

ALLOWED = {
    "docket.clock": "the one place",
    "docket.store.guardian": "runs with nothing but the standard library",
}
READINGS = {
    *(
        f"time.{name}{unit}"
        for name in ("time", "monotonic", "perf_counter", "clock_gettime")
        for unit in ("", "_ns")
    ),
    *(f"datetime.datetime.{name}" for name in ("now", "utcnow", "today")),
    "datetime.date.today",
    "anyio.current_time",
}


def one_clock(root: Path) -> list[str]:
    found: list[str] = []
    for module in modules(root):
        if module.name in ALLOWED:
            continue
        known = aliases(module.tree)
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom) and node.module == "time":
                names = [f"time.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Attribute):
                head, _, rest = dotted(node).partition(".")
                names = [f"{known.get(head, head)}.{rest}"]
            elif isinstance(node, ast.Name):
                names = [known.get(node.id, "")]
            else:
                continue
            for name in names:
                asks_loop = name.endswith((".time",)) and name[:-5].lower().endswith(("loop", "loop()"))
                if name in READINGS or asks_loop:
                    found.append(module.at(node, f"{name} reads the time: docket.clock does"))
    return found


def test_the_clock_is_read_in_one_place():
    assert one_clock(REPOSITORY) == []


@pytest.mark.parametrize(
    "text",
    [
        "import time\ntime.time()",
        "import time as t\ndefault = t.monotonic",
        "from time import monotonic_ns",
        "from datetime import datetime\ndatetime.now()",
        "from datetime import datetime as dt\ndt.utcnow()",
        "import datetime\ndatetime.datetime.now(datetime.UTC)",
        "import datetime\ndatetime.date.today()",
        "import asyncio\nasyncio.get_running_loop().time()",
        "def f(self):\n    return self._loop.time()",
        "import anyio\nanyio.current_time()",
        "from anyio import current_time\ncurrent_time()",
    ],
)
def test_another_reading_is_found(text, tmp_path):
    assert one_clock(plant(tmp_path, {"runtime/docket_runtime/x.py": text}))


@pytest.mark.parametrize(
    "text",
    [
        "import time\ntime.sleep(1)",
        "from docket import clock\nclock.now()",
        "from docket.clock import monotonic\nmonotonic()",
        "when.time()",
        "from datetime import datetime, timedelta\ndef f(when: datetime) -> timedelta: ...",
    ],
)
def test_what_reads_no_clock_is_not_found(text, tmp_path):
    assert one_clock(plant(tmp_path, {"runtime/docket_runtime/x.py": text})) == []
