"""Short drills; `make chaos` is a minute of all of them at once, `make soak` as long as one likes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.supervisor.service import ROOT, source_path


def chaos(*arguments: str, timeout: float = 100) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chaos", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": source_path(), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.mark.parametrize(
    ("drill", "seconds", "incidents"),
    [
        ("kill-workers", 4, {"kill"}),
        ("cut", 3, {"cut", "lost reply"}),
        ("poison", 3, set[str]()),
    ],
)
def test_the_evidence_of_a_short_drill_holds(
    drill: str, seconds: int, incidents: set[str], short_folder: Path
) -> None:
    told = chaos(
        *(drill, "--duration", f"{seconds}s", "--processes", "2", "--seed", "4", "--not-timed"),
        *("--folder", str(short_folder), "--gantt", str(short_folder / "picture.svg")),
    )
    log = (short_folder / "service-1.log").read_text()
    assert told.returncode == 0, told.stdout + told.stderr + log[-5000:]
    assert "the evidence holds" in told.stdout
    report = json.loads((short_folder / "report.json").read_text())
    assert report["clean"] and report["scheduled"] > 50 and report["runs"] >= report["scheduled"]
    assert incidents <= {each["what"] for each in report["incidents"]}
    assert (short_folder / "picture.svg").read_text().startswith("<svg")
    if drill == "poison":
        assert report["duplicates_by_cause"]["poison"] >= 2
