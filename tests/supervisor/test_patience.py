"""What the unit grants us to stop, asked of a systemctl of the test's own."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from docket_supervisor.patience import granted


@pytest.fixture
def cgroup(tmp_path: Path) -> str:
    path = tmp_path / "cgroup"
    path.write_text("1:name=systemd:/\n0::/system.slice/docket-shop.service\n")
    return str(path)


def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("1min 30s", timedelta(seconds=90)),
        ("45s", timedelta(seconds=45)),
        ("1h 2min 3.5s", timedelta(hours=1, minutes=2, seconds=3.5)),
        ("500ms", timedelta(milliseconds=500)),
        ("infinity", None),
        ("", None),
    ],
)
def test_it_is_read_in_the_words_of_systemd(
    told: str, expected: timedelta | None, cgroup: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemctl(tmp_path, monkeypatch, f'[ "$4" = docket-shop.service ] && echo "{told}"')
    assert granted(cgroup) == expected


def test_without_an_answer_nothing_is_known(
    cgroup: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemctl(tmp_path, monkeypatch, "echo 90s; exit 1")
    assert granted(cgroup) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert granted(cgroup) is None


@pytest.mark.parametrize("lines", ["0::/user.slice/session-1.scope\n", "0::/\n", ""])
def test_who_is_in_no_service_is_granted_nothing_that_we_know_of(lines: str, tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text(lines)
    assert granted(str(tmp_path / "cgroup")) is None
    assert granted(str(tmp_path / "nowhere")) is None
