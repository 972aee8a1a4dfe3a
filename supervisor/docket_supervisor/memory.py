"""How much memory a process has that no other one shares: what ending it would give back."""

from __future__ import annotations

import psutil

_PRIVATE = ("Private_Clean:", "Private_Dirty:", "Private_Hugetlb:")


def private_bytes(pid: int) -> int | None:
    """USS. None if the process has gone or may not be looked at.

    On Linux the kernel adds it up itself; reading all mappings, as psutil does, takes a hundred times as long.
    """
    try:
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            return 1024 * sum(int(line.split()[1]) for line in rollup if line.startswith(_PRIVATE))
    except OSError:
        pass
    try:
        return psutil.Process(pid).memory_full_info().uss
    except psutil.Error:
        return None
