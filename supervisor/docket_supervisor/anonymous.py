"""A file without a name: gone with the last process that has it open, unless an `execve` hands it on."""

from __future__ import annotations

import os
import tempfile


def anonymous_file(purpose: str) -> int:
    """Its descriptor; in memory where the system can do that. `purpose` is what `/proc/PID/maps` shows."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(purpose)
    with tempfile.TemporaryFile() as named_nowhere:
        return os.dup(named_nowhere.fileno())
