"""`docket worker --healthcheck-port` and `--metrics-port`: what one worker answers over HTTP."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from docket.sync import Docket
from tests.cli.conftest import Running
from tests.redis_server import RedisServer

Start = Callable[..., Running]


def address(worker: Running, what: str) -> str:
    worker.says(f"{what}: http://")
    found = re.search(rf"{what}: (http://\S+)", worker.log)
    assert found is not None
    return found[1]


def asked(url: str) -> tuple[int, str]:
    try:
        with urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def wait_for(url: str, code: int, within: float = 15) -> str:
    give_up_at = time.monotonic() + within
    while True:
        got, said = asked(url)
        if got == code:
            return said
        assert time.monotonic() < give_up_at, (got, said)
        time.sleep(0.02)


def test_health_is_answered_on_the_loopback(start: Start) -> None:
    worker = start("worker", "--healthcheck-port", "0")
    url = address(worker, "health")
    assert url.startswith("http://127.0.0.1:")
    wait_for(f"{url}ready", 200)
    for path in ("", "live", "ready", "startup", "healthz"):
        assert asked(f"{url}{path}") == (200, "OK\n")
    assert worker.signalled(signal.SIGTERM) == 0


def test_a_worker_that_drains_is_alive_and_not_ready(
    start: Start, client: Docket, shop: Path, tmp_path: Path
) -> None:
    worker = start("worker", "--tasks", "shop:tasks", "--healthcheck-port", "0")
    url = address(worker, "health")
    client.add("hold")(str(tmp_path / "go"))
    worker.says("hold(...)")
    worker.process.send_signal(signal.SIGTERM)
    assert wait_for(f"{url}ready", 503) == "the worker is quiet or draining\n"
    assert asked(f"{url}live")[0] == 200 and asked(f"{url}startup")[0] == 200
    (tmp_path / "go").touch()
    assert worker.ends() == 0


def test_without_redis_it_is_alive_and_not_ready(start: Start, own_redis: RedisServer) -> None:
    worker = start("worker", "--healthcheck-port", "0", "--url", own_redis.url)
    url = address(worker, "health")
    wait_for(f"{url}ready", 200)
    own_redis.stop()
    assert wait_for(f"{url}ready", 503) == "Redis is away\n"
    assert asked(f"{url}live")[0] == 200 and asked(f"{url}startup")[0] == 200
    own_redis.start()
    wait_for(f"{url}ready", 200)
    assert worker.signalled(signal.SIGTERM) == 0


def test_a_loop_that_does_not_turn_is_not_alive(start: Start, client: Docket, tmp_path: Path) -> None:
    (tmp_path / "blocking.py").write_text(
        "import time\nfrom pathlib import Path\n"
        "async def block(path):\n    while not Path(path).exists(): time.sleep(0.01)\n"
        "tasks = [block]\n"
    )
    worker = start("worker", "--tasks", "blocking:tasks", "--healthcheck-port", "0")
    url = address(worker, "health")
    client.add("block")(str(tmp_path / "go"))
    assert "the event loop has not turned for" in wait_for(f"{url}live", 503)
    assert asked(f"{url}ready")[0] == 503
    (tmp_path / "go").touch()
    wait_for(f"{url}live", 200)
    assert worker.signalled(signal.SIGTERM) == 0


@pytest.mark.parametrize("option", ["--healthcheck-port", "--metrics-port"])
def test_a_port_that_is_taken_is_one_line_and_exit_2(start: Start, option: str) -> None:
    if option == "--metrics-port":
        pytest.importorskip(
            "opentelemetry.exporter.prometheus", reason="docket-runtime[otel] is not installed"
        )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        worker = start("worker", option, str(port))
        assert worker.ends() == 2
    assert f"cannot listen on 127.0.0.1 port {port}: " in worker.log
    assert "Traceback" not in worker.log


def test_metrics_are_shown_to_prometheus(start: Start, client: Docket, shop: Path) -> None:
    pytest.importorskip("opentelemetry.exporter.prometheus", reason="docket-runtime[otel] is not installed")
    worker = start("worker", "--tasks", "shop:tasks", "--name", "anna", "--metrics-port", "0")
    url = address(worker, "metrics")
    client.add("resize")("x")
    client.add("fail")("x")
    worker.says("failed")

    def shown() -> dict[str, float]:
        lines = asked(url)[1].splitlines()
        found = [re.fullmatch(r'(\w+)\{.*docket_task="(\w+)".*\} (\S+)', line) for line in lines]
        return {f"{match[1]} {match[2]}": float(match[3]) for match in found if match is not None}

    give_up_at = time.monotonic() + 10
    while shown().get("docket_tasks_completed_total fail") != 2 and time.monotonic() < give_up_at:
        time.sleep(0.02)
    counted = shown()
    assert counted["docket_tasks_started_total resize"] == counted["docket_tasks_succeeded_total resize"] == 1
    assert counted["docket_tasks_failed_total fail"] == 2 and counted["docket_tasks_retried_total fail"] == 1
    assert counted["docket_tasks_running resize"] == 0
    assert counted["docket_task_duration_seconds_count resize"] == 1
    text = asked(url)[1]
    for name in (
        "docket_queue_depth{",
        "docket_schedule_depth{",
        "docket_dead_letters{",
        'docket_worker="anna"',
    ):
        assert name in text
    assert worker.signalled(signal.SIGTERM) == 0


def test_what_was_recorded_is_sent_before_the_worker_leaves(
    start: Start, client: Docket, tmp_path: Path
) -> None:
    """Exporters send in batches, seconds later; also where a thread that does not end has the process end at once."""
    pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
    (tmp_path / "traced.py").write_text(
        """\
import time
from pathlib import Path
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

class ToFile(SpanExporter):
    def export(self, spans):
        with open(Path(__file__).with_name("spans"), "a") as file:
            file.writelines(span.name + "\\n" for span in spans)
        return SpanExportResult.SUCCESS

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(ToFile(), schedule_delay_millis=60_000))
trace.set_tracer_provider(provider)

async def quick(): pass
def stuck():
    Path(__file__).with_name("began").touch()
    while True:
        try: time.sleep(0.01)
        except BaseException: pass
tasks = [quick, stuck]
"""
    )
    client.add("quick")()
    assert start("worker", "--tasks", "traced:tasks", "--until-finished").ends() == 0
    assert (tmp_path / "spans").read_text() == "docket.task.quick\n"

    client.add("quick")()
    client.add("stuck", key="stuck")()
    worker = start("worker", "--tasks", "traced:tasks", "--drain-timeout", "0s")
    worker.says("quick(){")
    while not (tmp_path / "began").exists():
        assert worker.process.poll() is None
        time.sleep(0.01)
    assert worker.signalled(signal.SIGTERM) == 7
    assert (tmp_path / "spans").read_text() == "docket.task.quick\n" * 2
    client.cancel("stuck")


def test_what_is_opened_around_every_task_can_be_named(start: Start, client: Docket, tmp_path: Path) -> None:
    (tmp_path / "around.py").write_text(
        """\
from contextlib import asynccontextmanager
from pathlib import Path
from docket import Depends

@asynccontextmanager
async def session():
    with open(Path(__file__).with_name("notes"), "a") as notes: notes.write("opened ")
    yield

async def work(): pass
tasks, one, several = [work], Depends(session), {"session": Depends(session)}
"""
    )
    for number, reference in enumerate(("around:one", "around:several"), 1):
        client.add("work")()
        worker = start("worker", "--tasks", "around:tasks", "--dependencies", reference, "--until-finished")
        assert worker.ends() == 0
        assert (tmp_path / "notes").read_text() == "opened " * number
