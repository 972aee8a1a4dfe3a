"""The command line: options, variables, sentences and exit codes. No worker is forked here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from docket_supervisor.codes import MEANINGS, VERDICTS
from tests.supervisor.service import ROOT, source_path

Run = Callable[..., "subprocess.CompletedProcess[str]"]

OPTIONS = {
    "--processes": "DOCKET_PROCESSES",
    "--min-processes": "DOCKET_MIN_PROCESSES",
    "--max-processes": "DOCKET_MAX_PROCESSES",
    "--min-ready": "DOCKET_MIN_READY",
    "--concurrency": "DOCKET_CONCURRENCY",
    "--threads": "DOCKET_THREADS",
    "--tasks": "DOCKET_TASKS",
    "--docket": "DOCKET_NAME",
    "--url": "DOCKET_URL",
    "--redelivery-timeout": "DOCKET_REDELIVERY_TIMEOUT",
    "--drain-timeout": "DOCKET_DRAIN_TIMEOUT",
    "--boot-timeout": "DOCKET_BOOT_TIMEOUT",
    "--max-crashes": "DOCKET_MAX_CRASHES",
    "--result-storage": "DOCKET_RESULT_STORAGE",
    "--max-restarts": "DOCKET_MAX_RESTARTS",
    "--restart-window": "DOCKET_RESTART_WINDOW",
    "--canary": "DOCKET_CANARY",
    "--max-tasks": "DOCKET_MAX_TASKS",
    "--max-memory": "DOCKET_MAX_MEMORY",
    "--max-age": "DOCKET_MAX_AGE",
    "--recycle-jitter": "DOCKET_RECYCLE_JITTER",
    "--preload": "DOCKET_PRELOAD",
    "--worker-setup": "DOCKET_WORKER_SETUP",
    "--share-memory": "DOCKET_SHARE_MEMORY",
    "--strict-fork": "DOCKET_STRICT_FORK",
    "--health-port": "DOCKET_HEALTH_PORT",
    "--health-host": "DOCKET_HEALTH_HOST",
    "--require-redis": "DOCKET_REQUIRE_REDIS",
    "--app-dir": "DOCKET_APP_DIR",
    "--watch": "DOCKET_WATCH",
    "--log-format": "DOCKET_LOG_FORMAT",
    "--log-level": "DOCKET_LOG_LEVEL",
    "--pidfile": "DOCKET_PIDFILE",
    "--control-socket": "DOCKET_CONTROL_SOCKET",
    "--stop-timeout": "DOCKET_STOP_TIMEOUT",
    "--check": "DOCKET_CHECK",
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def ran(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DOCKET_")}
        return subprocess.run(
            [sys.executable, "-m", "docket_supervisor", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**inherited, "PYTHONPATH": source_path(), "COLUMNS": "200", **variables},
            timeout=60,
        )

    (tmp_path / "shop.py").write_text(f"def ship(): ...\ntasks = [ship]\nhere = {str(ROOT)!r}\n")
    return ran


def test_help_explains_every_option_its_variable_and_every_exit_code(run: Run) -> None:
    told = run("--help")
    assert told.returncode == 0
    for option, variable in OPTIONS.items():
        assert option in told.stdout and variable in told.stdout
    for code, meaning in MEANINGS.items():
        assert f"{code.value} {meaning}" in told.stdout


def test_options_that_are_not_built_do_not_exist(run: Run) -> None:
    told = run("--max-requests", "160")
    assert told.returncode == 2 and "No such option" in told.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--processes", "0"], "expected --processes to be at least 1, got 0"),
        (
            ["--processes", "many"],
            "expected --processes to be a number, auto or a range such as 2..8, got 'many'",
        ),
        (["--concurrency", "0"], "expected --concurrency to be at least 1, got 0"),
        (["--drain-timeout", "soon"], "--drain-timeout: expected a duration such as 30s"),
        (["--boot-timeout", "0"], "expected --boot-timeout to be above zero, got 0s"),
        (["--max-tasks", "0"], "expected --max-tasks to be at least 1, got 0"),
        (["--max-memory", "much"], "--max-memory: expected a size such as 160M or 1G, got 'much'"),
        (["--max-memory", "160"], "expected --max-memory to be at least 1M, got 160"),
        (["--max-age", "0"], "expected --max-age to be above zero, got 0s"),
        (["--recycle-jitter", "2"], "expected --recycle-jitter to be at least 0 and below 1, got 2"),
        (["--canary", "soon"], "--canary: expected a duration such as 30s"),
        (["--tasks", "shop"], "expected --tasks as module:collection, got 'shop'"),
        (["--docket", ""], "expected the docket's name"),
        (["--log-format", "xml"], "expected --log-format to be plain, rich or json, got 'xml'"),
        (["--log-level", "loud"], "expected --log-level to be one of DEBUG"),
        (["--app-dir", "nowhere"], "expected --app-dir to be a folder, got 'nowhere'"),
    ],
)
def test_a_wrong_option_ends_with_2_and_one_sentence(run: Run, arguments: list[str], sentence: str) -> None:
    told = run(*arguments)
    assert told.returncode == 2
    assert sentence in told.stderr and len(told.stderr.splitlines()) == 1


def test_a_wrong_variable_ends_with_2_too(run: Run) -> None:
    told = run(DOCKET_PROCESSES="0")
    assert (told.returncode, "expected --processes to be at least 1, got 0" in told.stderr) == (2, True)


def test_a_check_that_passes_says_what_would_run(run: Run) -> None:
    told = run("--check", "--tasks", "shop:tasks", "--processes", "3", "--docket", "orders")
    assert (told.returncode, told.stdout) == (0, "")
    said = "ok: docket orders, 3 processes with 10 slots each, tasks from shop:tasks\n"
    assert told.stderr.startswith("memory of a worker") and told.stderr.endswith(f"\n{said}")


def test_a_check_of_a_range_says_so(run: Run) -> None:
    assert "2 to 8 processes" in run("--check", "--tasks", "shop:tasks", "--processes", "2..8").stderr


def test_help_explains_every_signal(run: Run) -> None:
    told = run("--help").stdout
    for name in ("TERM", "INT", "QUIT", "HUP", "USR1", "TTIN", "TTOU", "TSTP", "CONT"):
        assert name in told.partition("Signals to the supervisor:")[2]


@pytest.mark.parametrize("command", ["status", "top", "quiet", "resume", "scale", "reload", "stacks", "stop"])
def test_help_of_every_command_has_its_exit_codes_and_variables(run: Run, command: str) -> None:
    told = run(command, "--help").stdout
    for code, meaning in VERDICTS.items():
        assert f"{code.value} {meaning}" in told
    options = re.findall(r"^ +(--[a-z-]+)", told, re.M)
    assert len(options) - options.count("--help") == " ".join(told.split()).count("[env var: DOCKET_")


def test_variables_stand_for_options_and_tasks_are_separated_by_commas(run: Run) -> None:
    told = run(
        DOCKET_CHECK="1", DOCKET_TASKS="shop:tasks,shop:tasks", DOCKET_CONCURRENCY="4", DOCKET_PROCESSES="2"
    )
    said = "ok: docket docket, 2 processes with 4 slots each, tasks from shop:tasks, shop:tasks\n"
    assert told.stderr.endswith(f"\n{said}")


def test_a_check_tells_why_an_import_fails(run: Run, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("1 / 0\n")
    told = run("--check", "--tasks", "shop:tasks")
    assert told.returncode == 3
    assert told.stderr.count("Traceback") == 1 and "ZeroDivisionError" in told.stderr


@pytest.mark.parametrize("reference", ["nowhere:tasks", "shop:nothing", "shop:here"])
def test_a_check_finds_missing_modules_and_collections(run: Run, reference: str) -> None:
    assert run("--check", "--tasks", reference).returncode == 3


def test_a_check_ends_an_import_that_does_not(run: Run, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("import time\ntime.sleep(60)\n")
    told = run("--check", "--tasks", "shop:tasks", "--boot-timeout", "300ms")
    assert told.returncode == 4 and "did not finish importing within 0.3 seconds" in told.stderr


def test_a_check_survives_a_module_that_kills_its_process(run: Run, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("import os\nos.abort()\n")
    told = run("--check", "--tasks", "shop:tasks")
    assert told.returncode == 3 and "killed by SIGABRT" in told.stderr


def test_a_check_refuses_a_url_that_names_no_redis(run: Run) -> None:
    told = run("--check", "--tasks", "shop:tasks", "--url", "http://example")
    assert told.returncode == 2 and "redis://" in told.stderr


def test_a_check_needs_redis_only_if_it_is_required(run: Run, tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/no.sock"
    assert run("--check", "--tasks", "shop:tasks", "--url", url).returncode == 0
    told = run("--check", "--tasks", "shop:tasks", "--url", url, "--require-redis")
    assert told.returncode == 6 and "Redis is not reachable" in told.stderr
