"""A short soak; `make soak` is the long one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.supervisor.service import ROOT, source_path


def test_nothing_is_lost_while_processes_get_random_signals(short_folder: Path) -> None:
    soak = subprocess.run(
        [
            *(sys.executable, "-m", "chaos.soak", "--duration", "8s", "--processes", "2"),
            *("--seed", "4", "--folder", str(short_folder)),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": source_path()},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert soak.returncode == 0, (
        soak.stdout + soak.stderr + (short_folder / "service.log").read_text()[-5000:]
    )
    verdict = json.loads((short_folder / "verdict.json").read_text())
    assert verdict["clean"] and verdict["scheduled"] > 100 and verdict["runs"] >= verdict["scheduled"]
