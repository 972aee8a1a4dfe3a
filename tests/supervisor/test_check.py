"""`--check` refuses what a start would refuse, with the same code, and leaves nothing behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from docket_supervisor.check import check
from docket_supervisor.pidfile import Pidfile
from docket_supervisor.settings import SupervisorSettings
from docket_supervisor.taken import Taken
from tests.supervisor.service import source_path

APP = """
class Store:
    async def get(self, key, *, collection=None): ...
    async def put(self, key, value, *, collection=None, ttl=None): ...
class Half:
    async def get(self, key, *, collection=None): ...
def make():
    raise SystemExit("a storage is made in workers only")
def ship(): ...
store, half, number, tasks = Store(), Half(), 5, [ship]
"""

Checked = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def checked(short_folder: Path) -> Checked:
    (short_folder / "shop.py").write_text(APP)

    def ran(*options: str, redirected: str = "") -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "docket_supervisor", "--check", "--tasks", "shop:tasks", *options]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DOCKET_")}
        before = set(os.listdir(short_folder))
        told = subprocess.run(
            ["sh", "-c", f'exec "$@" {redirected}', "sh", *program],
            capture_output=True,
            text=True,
            cwd=short_folder,
            env={**inherited, "PYTHONPATH": source_path(), "PYTHONDONTWRITEBYTECODE": "1"},
            timeout=60,
        )
        assert set(os.listdir(short_folder)) == before
        return told

    return ran


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--result-storage", "shop:nope"), 3, "could not find shop:nope"),
        (("--result-storage", "nowhere:store"), 3, "could not import nowhere"),
        (("--result-storage", "shop:number"), 3, "expected result_storage to be a store"),
        (("--result-storage", "shop:half"), 3, "without put"),
        (("--result-storage", "shop:Half"), 3, "without put"),
        (("--result-storage", "shop:store"), 0, "ok: "),
        (("--result-storage", "shop:Store"), 0, "ok: "),
        (("--result-storage", "shop:make"), 0, "ok: "),
        (("--pidfile", "/nowhere/x.pid"), 2, "expected --pidfile to be a file that can be written"),
        (("--pidfile", "shop.py/x.pid"), 2, "expected --pidfile to be a file that can be written"),
        (("--pidfile", "."), 2, "expected --pidfile to be a file that can be written"),
        (("--pidfile", "fresh.pid"), 0, "ok: "),
        (("--pidfile", "shop.py"), 8, "expected a pid in the pidfile"),
        (("--control-socket", "/nowhere/x.sock"), 2, "expected --control-socket to be a place for a socket"),
        (("--control-socket", "shop.py"), 8, "something that is no socket"),
        (("--control-socket", "fresh.sock"), 0, "ok: "),
        (("--health-port", "0", "--health-host", "no.such.host.invalid"), 2, "cannot answer for health at"),
        (("--health-port", "0", "--health-host", "192.0.2.1"), 2, "cannot answer for health at 192.0.2.1"),
        (("--health-port", "0"), 0, "ok: "),
    ],
)
def test_what_a_start_would_say(checked: Checked, options: tuple[str, ...], code: int, said: str) -> None:
    told = checked(*options)
    assert told.returncode == code, told.stderr
    assert said in told.stderr


def test_a_check_is_made_beside_the_service_that_runs(checked: Checked, short_folder: Path) -> None:
    (short_folder / "pid").write_text(f"{os.getpid()}\n")
    with (
        socket.create_server(("127.0.0.1", 0)) as port,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control,
    ):
        control.bind(str(short_folder / "control"))
        control.listen()
        in_use = ("--pidfile", "pid", "--control-socket", "control", "--health-port")
        told = checked(*in_use, str(port.getsockname()[1]))
    assert told.returncode == 0, told.stderr


@pytest.mark.parametrize("redirected", ["2>&-", "<&-", ">&-", "<&- >&- 2>&-"])
def test_a_check_needs_no_standard_descriptors(checked: Checked, redirected: str) -> None:
    assert checked(redirected=redirected).returncode == 0
    assert checked("--pidfile", "shop.py", redirected=redirected).returncode == 8


@pytest.mark.parametrize(
    "content", ["", "\n", "0", "-1", "12 13", "x", "²", "4294967296", "2147483648", "2147483647\n"]
)
def test_a_check_and_a_claim_are_of_one_mind_about_what_stands_in_a_pidfile(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pid"
    path.write_text(content)
    monkeypatch.setattr(
        "docket_supervisor.check.fork", lambda main: os.posix_spawn("/bin/true", ["true"], {})
    )
    found = check(SupervisorSettings(pidfile=str(path)))
    pidfile = Pidfile(str(path))
    try:
        pidfile.claim()
    except Taken:
        assert found == 8
    else:
        pidfile.release()
        assert found == 0
