"""Deaths for want of memory are told from other deaths by SIGKILL, with either version of control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from docket_supervisor.oom import OutOfMemory


class Machine:
    """As much of /proc and /sys/fs/cgroup as is looked at."""

    def __init__(self, folder: Path, membership: str) -> None:
        self.proc, self.groups = folder / "proc", folder / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self/cgroup").write_text(membership)

    def write(self, path: str, text: str) -> Path:
        file = self.groups / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def watch(self) -> OutOfMemory:
        return OutOfMemory(self.proc, self.groups)


VERSIONS = pytest.mark.parametrize(
    ("membership", "path", "text"),
    [
        ("0::/app.slice/docket\n", "app.slice/docket/memory.events", "low 0\nmax 12\noom 1\noom_kill {}\n"),
        ("0::/app.slice/docket\n", "memory.events", "oom 1\noom_kill {}\noom_group_kill 0\n"),
        (
            "5:cpu:/x\n4:memory:/docker/abc\n0::/y\n",
            "memory/docker/abc/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n",
        ),
        ("4:cpu,memory:/docker/abc\n", "memory/memory.oom_control", "under_oom 0\noom_kill {}\n"),
    ],
    ids=["v2", "v2 in a container", "v1", "v1 in a container"],
)


@VERSIONS
def test_the_counter_before_and_after_explains_one_death_for_each_step(
    tmp_path: Path, membership: str, path: str, text: str
) -> None:
    machine = Machine(tmp_path, membership)
    file = machine.write(path, text.format(3))
    oom = machine.watch()
    assert oom.struck() == ""
    file.write_text(text.format(5))
    assert oom.struck() == f"{file}: oom_kill 3 → 5"
    assert oom.struck() == f"{file}: oom_kill 4 → 5"
    assert oom.struck() == ""


def test_without_a_group_the_machines_counter_is_read(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "0::/\n")
    (machine.proc / "vmstat").write_text("pgfault 12\noom_kill 1\n")
    oom = machine.watch()
    (machine.proc / "vmstat").write_text("pgfault 14\noom_kill 2\n")
    assert "vmstat" in oom.struck()


def test_where_nobody_counts_nothing_is_said(tmp_path: Path) -> None:
    assert OutOfMemory(tmp_path / "proc", tmp_path / "cgroup").struck() == ""
    machine = Machine(tmp_path, "4:memory:/x\n")
    file = machine.write("memory/x/memory.oom_control", "oom_kill 1\n")
    oom = machine.watch()
    file.unlink()
    assert oom.struck() == ""


def test_what_was_killed_long_ago_explains_no_death_of_today(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "0::/\n")
    file = machine.write("memory.events", "oom_kill 1\n")
    oom = machine.watch()
    file.write_text("oom_kill 2\n")
    oom.forget()
    assert oom.struck() != "", "one look later it may still be news"
    file.write_text("oom_kill 3\n")
    oom.forget()
    oom.forget()
    assert oom.struck() == ""
