"""`docket worker`: one worker in the foreground, as a user starts it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

import docket_runtime.run
from docket.settings import DocketSettings
from docket.sync import Docket
from docket_runtime.settings import WorkerSettings
from tests.cli.conftest import Answer, Running
from tests.redis_server import RedisServer

Start = Callable[..., Running]

VARIABLES = {
    "DOCKET_TASKS": "shop:tasks, docket.tasks:standard_tasks",
    "DOCKET_WORKER_NAME": "anna",
    "DOCKET_WORKER_CONCURRENCY": "3",
    "DOCKET_WORKER_THREADS": "2",
    "DOCKET_WORKER_REDELIVERY_TIMEOUT": "1h30m",
    "DOCKET_WORKER_DRAIN_TIMEOUT": "250ms",
    "DOCKET_WORKER_MAX_CRASHES": "5",
    "DOCKET_WORKER_UNTIL_FINISHED": "1",
    "DOCKET_WORKER_FALLBACK_TASK": "shop:stranger",
    "DOCKET_WORKER_RESULT_STORAGE": "shop:storage",
    "DOCKET_WORKER_DEPENDENCIES": "shop:around",
    "DOCKET_WORKER_SCHEDULE_AUTOMATIC_TASKS": "0",
    "DOCKET_WORKER_ENABLE_INTERNAL_INSTRUMENTATION": "1",
    "DOCKET_WORKER_HEALTHCHECK_PORT": "8081",
    "DOCKET_WORKER_HEALTHCHECK_HOST": "::1",
    "DOCKET_WORKER_METRICS_PORT": "8082",
    "DOCKET_WORKER_METRICS_HOST": "0.0.0.0",
    "DOCKET_WORKER_MESSAGE_BATCH": "7",
    "DOCKET_WORKER_RECONNECTION_DELAY": "1.5s",
    "DOCKET_WORKER_MINIMUM_CHECK_INTERVAL": "40ms",
    "DOCKET_WORKER_SCHEDULING_RESOLUTION": "05:30",
}
FLAGS = {
    "DOCKET_TASKS": "x:y",
    "DOCKET_WORKER_UNTIL_FINISHED": "0",
    "DOCKET_WORKER_SCHEDULE_AUTOMATIC_TASKS": "1",
    "DOCKET_WORKER_ENABLE_INTERNAL_INSTRUMENTATION": "0",
}
"""Those that are not followed by a value as they stand above, each with another one."""
SETTINGS = WorkerSettings(
    name="anna",
    concurrency=3,
    threads=2,
    redelivery_timeout=timedelta(minutes=90),
    drain_timeout=timedelta(milliseconds=250),
    max_crashes=5,
    until_finished=True,
    fallback_task="shop:stranger",
    result_storage="shop:storage",
    dependencies="shop:around",
    schedule_automatic_tasks=False,
    enable_internal_instrumentation=True,
    healthcheck_port=8081,
    healthcheck_host="::1",
    metrics_port=8082,
    metrics_host="0.0.0.0",
    message_batch=7,
    reconnection_delay=timedelta(seconds=1.5),
    minimum_check_interval=timedelta(milliseconds=40),
    scheduling_resolution=timedelta(minutes=5, seconds=30),
    tasks=("shop:tasks", "docket.tasks:standard_tasks"),
)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, shop: Path) -> list[Any]:
    """What `run_worker` is called with; it runs nothing here. The process-wide logging is left alone."""
    calls: list[Any] = []

    def remember(docket: DocketSettings, worker: WorkerSettings) -> int:
        calls[:] = [docket, worker]
        return 7

    monkeypatch.setattr(docket_runtime.run, "run_worker", remember)
    monkeypatch.setattr("docket.logs.configure", lambda *given: calls.append(given))
    monkeypatch.chdir(shop.parent)
    monkeypatch.syspath_prepend(str(shop.parent))
    return calls


def test_the_defaults_are_those_of_the_settings(invoke: Answer, given: list[Any]) -> None:
    assert invoke("worker")[0] == 7
    assert given == [DocketSettings(), WorkerSettings()]


def test_every_option_has_a_variable(invoke: Answer, given: list[Any]) -> None:
    invoke("worker", DOCKET_NAME="n", DOCKET_URL="redis://elsewhere", **VARIABLES)
    where = DocketSettings(name="n", url="redis://elsewhere", enable_internal_instrumentation=True)
    assert given == [where, SETTINGS]


def test_every_option_wins_over_its_variable(invoke: Answer, given: list[Any]) -> None:
    options = ["--tasks", "shop:tasks", "--tasks", "docket.tasks:standard_tasks", "--until-finished"]
    options += ["--no-schedule-automatic-tasks", "--enable-internal-instrumentation"]
    for name, value in VARIABLES.items():
        option = "--" + name.removeprefix("DOCKET_WORKER_").lower().replace("_", "-")
        if name not in FLAGS:
            options += [option, value]
    wrong = dict.fromkeys(VARIABLES, "9") | FLAGS
    invoke("worker", *options, **wrong)
    assert given[1] == SETTINGS


def test_the_variables_of_the_supervisor_are_understood(invoke: Answer, given: list[Any]) -> None:
    invoke("worker", DOCKET_CONCURRENCY="4", DOCKET_DRAIN_TIMEOUT="9s", DOCKET_MAX_CRASHES="2")
    assert (given[1].concurrency, given[1].drain_timeout, given[1].max_crashes) == (
        4,
        timedelta(seconds=9),
        2,
    )


def test_help_tells_every_variable_the_units_and_the_exit_codes(invoke: Answer) -> None:
    code, told, _ = invoke("worker", "--help", COLUMNS="200")
    told = " ".join(told.split())
    assert code == 0
    for word in (
        *VARIABLES,
        "DOCKET_LOGGING_LEVEL",
        "DOCKET_LOGGING_FORMAT",
        "30s",
        "Durations",
        "Exit codes",
    ):
        assert word in told


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--concurrency", "0"), "docket: expected --concurrency to be at least 1, got 0\n"),
        (("--threads", "0"), "docket: expected --threads to be at least 1, got 0\n"),
        (("--message-batch", "0"), "docket: expected --message-batch to be at least 1, got 0\n"),
        (("--redelivery-timeout", "0"), "docket: expected --redelivery-timeout to be positive"),
        (("--tasks", "shop"), "docket: expected --tasks as module:collection, got 'shop'\n"),
        (("--url", "http://x"), "docket: expected a URL that begins with redis://"),
        (("--docket", ""), "docket: expected the docket's name"),
        (("--concurrency", "many"), "'--concurrency': expected a whole number, got 'many'"),
        (("--drain-timeout", "soon"), "'--drain-timeout': expected a duration such as 30s"),
        (("--logging-format", "xml"), "to be plain, rich or json, got 'xml'"),
        (("--logging-level", "LOUD"), "to be one of DEBUG"),
        (("--fallback-task", "x"), "'--fallback-task': expected module:function, got 'x'"),
        (("--dependencies", "x"), "expected --dependencies as module:object, got 'x'"),
        (("--metrics-port", "70000"), "expected --metrics-port to be between 0 and 65535, got 70000"),
        (("--healthcheck-port", "-1"), "expected --healthcheck-port to be between 0 and 65535, got -1"),
        (("--result-storage", "x"), "expected --result-storage as module:object, got 'x'"),
    ],
)
def test_a_bad_option_is_usage(
    invoke: Answer, given: list[Any], arguments: tuple[str, ...], sentence: str
) -> None:
    code, told, line = invoke("worker", *arguments)
    assert (code, told) == (2, "")
    assert sentence.lower() in line.lower()
    assert given == []


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("missing:tasks", "could not import missing"),
        ("shop:missing", "could not find shop:missing"),
        ("shop:note", "expected shop:note to be a list of functions"),
        ("shop:no_tasks", "generator is a generator function"),
        ("broken:tasks", "1 / 0"),
        ("leaver:tasks", "SystemExit"),
    ],
)
def test_tasks_that_cannot_be_imported_exit_with_3(
    run: Answer, shop: Path, redis_url: str, reference: str, sentence: str
) -> None:
    shop.with_name("broken.py").write_text("1 / 0\n")
    shop.with_name("leaver.py").write_text("raise SystemExit('no')\n")
    code, told, lines = run("worker", "--tasks", reference, DOCKET_URL=redis_url)
    assert (code, told) == (3, "")
    assert sentence in lines and lines.count("Traceback") <= 1


def test_it_says_what_it_can_run(start: Start, shop: Path, docket_name: str) -> None:
    worker = start("worker", "--tasks", "shop:tasks", "--until-finished", "--name", "anna")
    assert worker.ends() == 0
    assert f"Starting worker 'anna' on docket '{docket_name}' at unix:" in worker.log
    for line in (
        "* ship(order: int, fast: bool = False, ...)",
        "* resize(path, *sizes: int, **more)",
        "* hold(path)",
        "* trace(message: str, ...)",
    ):
        assert line in worker.log


def test_it_runs_what_is_there_and_leaves(
    start: Start, client: Docket, evidence: Callable[[], list[str]]
) -> None:
    client.add("ship")(12)
    client.add("resize")("a.png")
    assert start("worker", "--tasks", "shop:tasks", "--until-finished").ends() == 0
    assert sorted(evidence()) == ["resized a.png", "shipped 12"]


def test_a_task_it_does_not_know_goes_to_the_fallback(
    start: Start, client: Docket, evidence: Callable[[], list[str]]
) -> None:
    client.add("unheard_of")(1, x=2)
    worker = start("worker", "--fallback-task", "shop:stranger", "--until-finished")
    assert worker.ends() == 0, worker.log
    assert evidence() == ["stranger (1,) {'x': 2}"]


def test_terminated_it_finishes_what_runs(
    start: Start, client: Docket, tmp_path: Path, evidence: Callable[[], list[str]]
) -> None:
    worker = start("worker", "--tasks", "shop:tasks")
    client.add("hold", key="held")(str(tmp_path / "go"))
    worker.says("hold(...){held}")
    worker.process.send_signal(signal.SIGTERM)
    worker.says("draining")
    (tmp_path / "go").touch()
    assert worker.ends() == 0
    assert evidence() == ["began", "ended"]


def test_a_drain_beyond_its_deadline_exits_with_7(start: Start, client: Docket, shop: Path) -> None:
    client.add("sleep", key="long")(60.0)
    worker = start("worker", "--drain-timeout", "200ms")
    worker.says("sleep(...){long}")
    began = time.monotonic()
    assert worker.signalled(signal.SIGTERM) == 7
    assert time.monotonic() - began < 5
    execution = client.get_execution("long")
    assert execution is not None and execution.state == "queued"
    client.clear()


def test_terminated_while_it_waits_for_redis_it_leaves(start: Start, short_folder: Path) -> None:
    worker = start("worker", "--url", f"unix://{short_folder}/nowhere.sock")
    worker.says("Redis is away")
    began = time.monotonic()
    assert worker.signalled(signal.SIGTERM) == 0
    assert time.monotonic() - began < 3


def test_it_waits_for_redis_and_says_so_once(start: Start, own_redis: RedisServer) -> None:
    own_redis.stop()
    worker = start("worker", "--url", own_redis.url, "--reconnection-delay", "50ms")
    worker.says("Redis is away")
    own_redis.start()
    worker.says("Redis is back")
    assert worker.log.count("Redis is away") == 1
    assert worker.signalled(signal.SIGTERM) == 0


def test_a_wrong_password_is_told_in_one_line(start: Start, own_redis: RedisServer) -> None:
    with redis.Redis(unix_socket_path=own_redis.socket_path) as client:
        client.config_set("requirepass", "hush")
    worker = start("worker", "--url", own_redis.url.replace("unix://", "unix://:wrong@"))
    assert worker.ends() == 2
    (line,) = (line for line in worker.log.splitlines() if "ERROR" in line)
    assert "refused the user name or password" in line
    assert "Traceback" not in worker.log and ":wrong@" not in worker.log


def test_json_logs_are_lines_of_json(start: Start, client: Docket) -> None:
    client.add("trace")("in a line of JSON")
    worker = start("worker", "--until-finished", "--logging-format", "json")
    assert worker.ends() == 0
    messages = [json.loads(line)["message"] for line in worker.log.splitlines()]
    assert "in a line of JSON" in messages and "* trace(message: str, ...)" in messages


def test_the_level_silences_the_rest(start: Start, client: Docket) -> None:
    client.add("trace")("unheard")
    worker = start("worker", "--until-finished", DOCKET_LOGGING_LEVEL="warning")
    assert worker.ends() == 0
    assert worker.log == ""


@pytest.mark.parametrize("reference", ["stores:shelf", "stores:make", "stores:make_later", "stores:Shelf"])
def test_results_go_to_the_storage_that_is_named(
    start: Start, client: Docket, tmp_path: Path, reference: str
) -> None:
    (tmp_path / "stores.py").write_text(
        """\
import json
from pathlib import Path

class Shelf:
    async def put(self, key, value, *, collection=None, ttl=None):
        Path(__file__).with_name("kept.json").write_text(json.dumps([collection, key, value, ttl]))
    async def get(self, key, *, collection=None): ...

def make():
    return Shelf()

async def make_later():
    return Shelf()

async def seven():
    return 7

shelf = Shelf()
tasks = [seven]
"""
    )
    client.add("seven", key="k")()
    assert (
        start("worker", "--tasks", "stores:tasks", "--result-storage", reference, "--until-finished").ends()
        == 0
    )
    collection, key, value, ttl = json.loads((tmp_path / "kept.json").read_text())
    assert (collection, key.partition(":")[0], set(value), ttl) == (
        f"{client.name}:results",
        "k",
        {"data"},
        900,
    )


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("nowhere:shelf", "No module named 'nowhere'"),
        ("shop:shelf", "has no attribute 'shelf'"),
        ("shop:no_tasks", "expected result_storage to be a store"),
    ],
)
def test_a_storage_that_cannot_be_had_is_told(start: Start, shop: Path, reference: str, words: str) -> None:
    worker = start("worker", "--result-storage", reference, "--until-finished")
    assert worker.ends() == 3
    assert words in worker.log
