"""How much of the machine is ours."""

from __future__ import annotations

import os


def processors() -> int:
    """The cores that this process may use, which in a container may be fewer than the machine has."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
