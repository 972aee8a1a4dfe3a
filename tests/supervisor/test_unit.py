"""`docket-supervise systemd`: a unit that systemd accepts and that says what was asked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from docket.settings import DocketSettings
from docket_runtime.settings import WorkerSettings
from docket_supervisor import credentials
from docket_supervisor.settings import SupervisorSettings
from docket_supervisor.unit import unit
from tests.supervisor.service import ROOT, source_path

Print = Callable[..., "subprocess.CompletedProcess[str]"]


def settings(name: str = "orders", drain: int = 30, **more: object) -> SupervisorSettings:
    return SupervisorSettings(
        docket=DocketSettings(name=name),
        worker=WorkerSettings(drain_timeout=timedelta(seconds=drain)),
        **more,  # type: ignore[arg-type]
    )


def values(text: str) -> dict[str, str]:
    """What each setting says; continued lines are joined."""
    lines = text.replace("\\\n", " ").splitlines()
    return dict(
        (line.partition("=")[0], " ".join(line.partition("=")[2].split()))
        for line in lines
        if "=" in line and not line.startswith("#")
    )


@pytest.fixture
def printed(tmp_path: Path) -> Print:
    def printed(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DOCKET_")}
        return subprocess.run(
            [sys.executable, "-m", "docket_supervisor", "systemd", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**inherited, "PYTHONPATH": source_path(), **variables},
            timeout=60,
        )

    return printed


def test_the_options_given_are_those_of_the_unit(printed: Print, tmp_path: Path) -> None:
    told = printed(
        *("--processes", "2..8", "--tasks", "shop:tasks", "--tasks", "mail:tasks", "--no-preload"),
        *("--url", "redis://:secret@host", "--docket", "my shop"),
        DOCKET_CONCURRENCY="7",
    )
    assert told.returncode == 0, told.stderr
    said = values(told.stdout)
    assert said["ExecStart"] == (
        f"{sys.executable} -m docket_supervisor --processes 2..8 --concurrency 7 --tasks shop:tasks "
        '--tasks mail:tasks --docket "my shop" --no-preload --control-socket %t/docket-my-shop/control.sock'
    )
    assert said["WorkingDirectory"] == str(tmp_path)
    assert "secret" not in told.stdout and said["LoadCredential"] == "docket-url:/etc/docket/my-shop.url"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--processes", "0"], "expected --processes to be at least 1, got 0"),
        (["shop:tasks"], "expected options of the service, got 'shop:tasks'"),
        (["--nonsense"], "No such option: --nonsense"),
        (["--drain-timeout", "60s", "--stop-timeout", "60s"], "expected --stop-timeout to be above 1m5s"),
    ],
)
def test_what_the_service_would_refuse_is_refused(
    printed: Print, arguments: list[str], sentence: str
) -> None:
    told = printed(*arguments)
    assert (told.returncode, told.stdout) == (2, "") and sentence in told.stderr


def test_what_an_operator_relies_on_is_there() -> None:
    said = values(unit(settings(), []))
    assert (said["Type"], said["NotifyAccess"], said["KillMode"]) == ("notify", "main", "mixed")
    assert (said["OOMPolicy"], said["RestartPreventExitStatus"]) == ("continue", "2 3")
    assert said["RuntimeDirectory"] == "docket-orders"
    assert "reload --wait" in said["ExecReload"]


@pytest.mark.parametrize("drain", [1, 30, 600])
def test_systemd_is_more_patient_than_the_supervisor_and_the_supervisor_knows(drain: int) -> None:
    asked = settings(drain=drain)
    said = values(unit(asked, []))
    granted = timedelta(seconds=int(said["TimeoutStopSec"]))
    assert asked.drain_timeout < asked.grace < asked.longest_stop < granted
    assert said["Environment"] == f"DOCKET_STOP_TIMEOUT={said['TimeoutStopSec']}s"
    settings(drain=drain, stop_timeout=granted)


def test_every_line_has_its_reason() -> None:
    """Above each setting of the service is a comment, its own or that of the setting before it."""
    service = unit(settings(), ["--processes", "2"]).partition("[Service]\n")[2].partition("\n[Install]")[0]
    blocks = ("\n" + service).split("\n#")[1:]
    for block in blocks:
        assert len(values(block.partition("\n")[2])) <= 3, block
    assert len(values(service)) == sum(len(values(block.partition("\n")[2])) for block in blocks) >= 18


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("name", ["orders", "my shop", '100% "mine" $HOME', "a/b"])
def test_systemd_accepts_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / "docket-test.service"
    path.write_text(unit(settings(name, app_dir=str(tmp_path)), ["--docket", name, "--log-format", "json"]))
    verdict = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True, timeout=60
    )
    assert (verdict.returncode, verdict.stderr) == (0, "")


DEPLOY = ROOT / "supervisor" / "deploy"


def example(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "argv", ["/opt/shop/.venv/bin/docket-supervise"])
    monkeypatch.chdir("/")
    options = ["--docket", "shop", "--tasks", "shop.tasks:tasks", "--processes", "4"]
    return unit(settings("shop"), options).replace("WorkingDirectory=/\n", "WorkingDirectory=/opt/shop\n")


def test_the_example_is_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (DEPLOY / "docket-shop.service").read_text() == example(monkeypatch)


def test_the_patience_of_the_examples_is_nested() -> None:
    """Read as text: the reasons beside the lines are not to be lost in a parser."""
    kubernetes = (DEPLOY / "kubernetes.yaml").read_text()
    container = (DEPLOY / "Containerfile").read_text()
    for text, granted in (
        (kubernetes, int(re.findall(r"^ +terminationGracePeriodSeconds: (\d+)$", kubernetes, re.M)[0])),
        (container, 10),
    ):
        drain, stop = (
            int(re.findall(rf"{name}(?:, value: |=)(\d+)s", text)[0])
            for name in ("DOCKET_DRAIN_TIMEOUT", "DOCKET_STOP_TIMEOUT")
        )
        assert stop <= granted
        settings(drain=drain, stop_timeout=timedelta(seconds=stop))


@pytest.mark.parametrize("name", ["kubernetes.yaml", "Containerfile", "docket-shop.service"])
def test_the_examples_use_options_that_exist(name: str) -> None:
    text = (DEPLOY / name).read_text()
    known = source_of("options") + source_of("commands")
    used = set(re.findall(r"\bDOCKET_[A-Z_]+\b", text))
    assert used and [variable for variable in used if variable not in known] == []


def source_of(module: str) -> str:
    return (ROOT / "supervisor" / "docket_supervisor" / f"{module}.py").read_text()


def test_the_url_may_be_a_credential(printed: Print, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert credentials.url() == DocketSettings.url
    (tmp_path / "docket-url").write_text("http://nonsense\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert credentials.url() == "http://nonsense"
    check = [sys.executable, "-m", "docket_supervisor", "--check"]
    env = {**os.environ, "PYTHONPATH": source_path()}
    told = subprocess.run(check, capture_output=True, text=True, env=env, timeout=60)
    assert told.returncode == 2 and "http://nonsense" in told.stderr
    env["DOCKET_URL"] = "redis://host"
    assert subprocess.run(check, capture_output=True, env=env, timeout=60).returncode == 0
