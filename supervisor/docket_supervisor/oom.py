"""Whether the kernel killed something of ours for want of memory: the counter of our control group tells."""

from __future__ import annotations

from pathlib import Path


class OutOfMemory:
    """A death by SIGKILL looks the same whoever sent it; only these counters tell. Read at every such death."""

    def __init__(self, proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> None:
        self._counter = _counter(proc, groups)
        self._before = self._latest = self.kills()

    def kills(self) -> int:
        """How many processes were killed so far; 0 where nobody counts."""
        try:
            lines = self._counter.read_text().splitlines() if self._counter else []
        except OSError:
            return 0
        found = (line.split() for line in lines)
        return next((int(fields[1]) for fields in found if fields[:1] == ["oom_kill"]), 0)

    def struck(self) -> str:
        """What the counter says about the process that was just found killed; `""` if it has not moved since the last
        one. One step of it explains one death."""
        now = self.kills()
        if now <= self._before:
            self._before = now
            return ""
        before, self._before = self._before, self._before + 1
        return f"{self._counter}: oom_kill {before} → {now}"

    def forget(self) -> None:
        """What the counter said a while ago, at the call before this one, is no news any more: it was something that a
        task had started, or a neighbour in the same group."""
        self._before, self._latest = max(self._before, self._latest), self.kills()


def _counter(proc: Path, groups: Path) -> Path | None:
    """The file with the counter for the smallest group that we are in; failing all, the one for the whole machine."""
    try:
        entries = [line.split(":", 2) for line in (proc / "self/cgroup").read_text().splitlines()]
    except OSError:
        entries = []
    for _, controllers, path in entries:
        if controllers == "":
            candidates = [(root, "memory.events") for root in (groups, groups / "unified")]
        elif "memory" in controllers.split(","):
            candidates = [(groups / "memory", "memory.oom_control")]
        else:
            continue
        for root, name in candidates:
            # Inside a container the path may be that of the host, and what is mounted here its innermost part.
            for folder in (root / path.lstrip("/"), root):
                if _counts(folder / name):
                    return folder / name
    return proc / "vmstat" if _counts(proc / "vmstat") else None


def _counts(file: Path) -> bool:
    try:
        return any(line.startswith("oom_kill ") for line in file.read_text().splitlines())
    except OSError:
        return False
