"""An interpreter for each peer, with its packages: made once, below .bench, and again when its packages change."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CACHE = REPOSITORY / ".bench"
PATIENCE = 600.0


class Broken(Exception):
    """A measurement is worth nothing; the message says why."""


def prepared(name: str, requirements: Sequence[str]) -> str:
    """The path of the interpreter, of the version that runs this. Broken, with what pip said, if the packages cannot be
    had."""
    folder = CACHE / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
    python, ready = folder / "bin" / "python", folder / "ready"
    wanted = "\n".join(requirements) + "\n"
    if ready.exists() and ready.read_text() == wanted:
        return str(python)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], [*pip, *requirements]):
        try:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Broken(f"{name} cannot be installed: {error}") from error
        if done.returncode:
            raise Broken(f"{name} cannot be installed:\n{done.stdout[-2000:]}")
    ready.write_text(wanted)
    return str(python)
