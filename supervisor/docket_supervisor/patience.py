"""How long systemd waits for the service to stop, as the unit says that it runs us from."""

from __future__ import annotations

import re
import subprocess
from datetime import timedelta

_PATIENCE = 2.0
_UNITS = {
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
    "month": 2629800.0,
    "y": 31557600.0,
}
_SPAN = re.compile(rf"(\d+(?:\.\d+)?)\s*({'|'.join(sorted(_UNITS, key=len, reverse=True))})\b")


def granted(cgroup: str = "/proc/self/cgroup") -> timedelta | None:
    """TimeoutStopSec of our unit; None if it is without limit or cannot be known. Asked before the first fork."""
    unit = _unit(cgroup)
    if unit is None:
        return None
    try:
        told = subprocess.run(
            ["systemctl", "show", "--property=TimeoutStopUSec", "--value", unit],
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    spans = _SPAN.findall(told)
    return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in spans)) if spans else None


def _unit(cgroup: str) -> str | None:
    """The innermost service that we are in, which systemd names our control group after."""
    try:
        with open(cgroup) as lines:
            parts = [part for line in lines for part in line.strip().split("/")]
    except OSError:
        return None
    return next((part for part in reversed(parts) if part.endswith(".service")), None)
