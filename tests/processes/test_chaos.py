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
        ("garbage", 2, {"garbage"}),
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


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "Missing argument 'DRILL'"),
        (("nothing",), "'nothing' is not one of"),
        (("storm", "--duration", "soon"), "expected a duration such as 30s"),
        (("restart-redis", "--url", "redis://127.0.0.1:1"), "leave --url out"),
        (("cut", "--url", "rediss://127.0.0.1:1"), "expected --url to be redis:// or unix://"),
        (("storm", "--gantt", "picture.png"), "ends in .svg or .html"),
    ],
)
def test_what_cannot_be_drilled_is_refused(arguments: tuple[str, ...], sentence: str) -> None:
    told = chaos(*arguments)
    assert told.returncode == 2 and sentence in " ".join(told.stderr.split())


def test_a_redis_that_is_not_there_is_no_evidence(tmp_path: Path) -> None:
    told = chaos("garbage", "--url", f"unix://{tmp_path}/none.sock", "--folder", str(tmp_path))
    assert told.returncode == 1 and "cannot reach Redis" in told.stdout
