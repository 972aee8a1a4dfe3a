"""OpenTelemetry in supervised workers: begun after the fork, and sent before a worker leaves."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from docket.sync import Docket
from tests.processes import evidence as does
from tests.processes import telemetry_app
from tests.processes.fleet import Evidence, Supervisor, eventually

Supervise = Callable[..., Supervisor]
OPTIONS = (
    *("--processes", "2", "--tasks", "tests.processes.telemetry_app:tasks"),
    *("--worker-setup", "tests.processes.telemetry_app:configure"),
)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[dict[str, Any]]]:
    """What has been told of this kind: `span`, `metric` or `configured`."""
    path = tmp_path / "telemetry"
    monkeypatch.setenv(telemetry_app.VARIABLE, str(path))

    def read(kind: str) -> list[dict[str, Any]]:
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in map(json.loads, lines) if kind in line]

    return read


@pytest.fixture
def traces() -> Iterator[trace.Tracer]:
    """This process traces, too."""
    provider = TracerProvider()
    before, trace._TRACER_PROVIDER = trace._TRACER_PROVIDER, provider
    yield provider.get_tracer("test")
    trace._TRACER_PROVIDER = before


@pytest.fixture
def client(docket: Docket) -> Docket:
    for task in telemetry_app.tasks:
        docket.register(task)
    return docket


@pytest.mark.parametrize("preload", ["--preload", "--no-preload"])
def test_every_worker_begins_for_itself_and_sends_everything_before_it_leaves(
    preload: str, supervise: Supervise, client: Docket, evidence: Evidence, told: Callable[[str], list[Any]]
) -> None:
    supervisor = supervise(*OPTIONS, preload)
    workers = set(supervisor.titled("worker"))
    executions = [client.add(task)() for task in telemetry_app.tasks * 20]
    for execution in executions:
        execution.get_result()
    assert told("span") == [], "nothing is sent before its time"
    assert supervisor.stop() == 0
    assert workers <= {line["pid"] for line in told("configured")}
    spans = {line["key"]: line for line in told("span") if line["span"].startswith("docket.task.")}
    assert spans.keys() == {execution.key for execution in executions}
    for execution in executions:
        assert spans[execution.key]["pid"] == evidence.began(execution.key)[0]["pid"]
    completed = [line["value"] for line in told("metric") if line["metric"] == "docket_tasks_completed"]
    assert sum(completed) == len(executions)
    assert "does not survive a fork" not in supervisor.log()


def test_a_run_is_linked_to_whoever_scheduled_it_however_long_ago(
    supervise: Supervise, client: Docket, told: Callable[[str], list[Any]], traces: trace.Tracer
) -> None:
    supervisor = supervise(*OPTIONS)
    sent: dict[str, str] = {}
    for key, due in (("now", None), ("later", datetime.now(UTC) + timedelta(seconds=0.5))):
        with traces.start_as_current_span(key) as span:
            sent[key] = trace.format_trace_id(span.get_span_context().trace_id)
            execution = client.add("traced", when=due, key=key)()
        execution.get_result()
    assert supervisor.stop() == 0
    links = {line["key"]: line["links"] for line in told("span") if line["key"] in sent}
    assert links == {key: [trace_id] for key, trace_id in sent.items()}


def test_a_worker_that_is_retired_sends_what_it_has(
    supervise: Supervise, client: Docket, evidence: Evidence, told: Callable[[str], list[Any]]
) -> None:
    supervisor = supervise(*OPTIONS)
    client.add("traced", key="one")().get_result()
    os.kill(evidence.began("one")[0]["pid"], signal.SIGTERM)
    eventually(lambda: [line for line in told("span") if line["key"] == "one"], "the span")
    assert supervisor.stop() == 0


def test_a_setup_that_fails_is_told_once_and_ends_the_start(supervise: Supervise, told: Any) -> None:
    supervisor = supervise(
        *("--processes", "3", "--worker-setup", "tests.processes.evidence:exit_on_setup"), ready=False
    )
    assert supervisor.ends() == 3
    assert supervisor.log().count("RuntimeError: no exporter here") == 1
    assert does.exit_on_setup.__name__ in supervisor.log()
