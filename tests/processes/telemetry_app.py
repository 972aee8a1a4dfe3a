"""An application that tells OpenTelemetry what it does, into a file: configured in each worker, after the fork."""

from __future__ import annotations

import json
import os
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from docket.dependencies import TaskKey
from tests.processes.evidence import running

VARIABLE = "TEST_TELEMETRY_FILE"
NEVER = 3_600_000
"""Milliseconds: what is found in the file was flushed at the end, and not sent in passing."""


def _tell(line: dict[str, Any]) -> None:
    with open(os.environ[VARIABLE], "a") as file:
        file.write(json.dumps({"pid": os.getpid(), **line}) + "\n")


class Spans(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        for span in spans:
            _tell(
                {"span": span.name, "key": (span.attributes or {}).get("docket.key"), "links": _links(span)}
            )
        return SpanExportResult.SUCCESS


class Metrics(MetricExporter):
    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 0, **kwargs: Any
    ) -> MetricExportResult:
        for resource in metrics_data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        _tell({"metric": metric.name, "value": getattr(point, "value", None)})
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 0) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 0, **kwargs: Any) -> None: ...


def _links(span: ReadableSpan) -> list[str]:
    return [trace.format_trace_id(link.context.trace_id) for link in span.links]


def configure() -> None:
    _tell({"configured": True})
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(Spans(), schedule_delay_millis=NEVER))
    trace.set_tracer_provider(tracers)
    reader = PeriodicExportingMetricReader(Metrics(), export_interval_millis=NEVER)
    metrics.set_meter_provider(MeterProvider([reader]))


async def traced(key: str = TaskKey()) -> None:
    with running(key):
        pass


def traced_sync(key: str = TaskKey()) -> None:
    with running(key):
        pass


tasks = [traced, traced_sync]
