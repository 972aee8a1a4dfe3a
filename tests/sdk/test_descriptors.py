"""A program that was started without some of its standard descriptors has them all."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.supervisor.service import source_path

PROGRAM = """
import os, subprocess, sys
from docket.descriptors import hold_standard_descriptors
hold_standard_descriptors()
fresh = os.open("/dev/zero", os.O_RDONLY)
assert fresh > 2, fresh
assert sys.stdin.fileno() == 0 and sys.stdout.fileno() == 1 and sys.stderr.fileno() == 2
print("said")
print("said, too", file=sys.stderr, flush=True)
sys.stdout.flush()
child = "import os; [os.fstat(each) for each in (0, 1, 2)]"
sys.exit(subprocess.run([sys.executable, "-c", child]).returncode)
"""


@pytest.mark.parametrize("closed", ["", "<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_whatever_is_closed_is_open_and_stays_so_in_children(closed: str) -> None:
    told = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={"PYTHONPATH": source_path()},
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout == ("" if " >&-" in f" {closed}" else "said\n")
    assert told.stderr == ("" if "2>&-" in closed else "said, too\n")
