"""Traces: what a client does, what a worker runs, and how the one is found from the other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from docket import CurrentDocket, Docket, Perpetual, Retry, payload, telemetry
from docket.sync import Docket as BlockingDocket
from tests.runtime.support import soon, work_off

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")

import opentelemetry.trace as trace  # pyright: ignore
from opentelemetry import baggage, context  # pyright: ignore
from opentelemetry.sdk.trace import TracerProvider  # pyright: ignore
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # pyright: ignore
from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # pyright: ignore
    InMemorySpanExporter,
)


class Spans:
    """What has ended so far."""

    def __init__(self) -> None:
        self.exporter: Any = InMemorySpanExporter()

    def named(self, name: str) -> list[Any]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def one(self, name: str) -> Any:
        (span,) = self.named(name)
        return span

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.exporter.get_finished_spans()]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    """A provider for this test only: the real way of setting one holds for the whole process."""
    found = Spans()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(found.exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return found


async def nothing() -> None: ...


def linked_to(span: Any) -> list[int]:
    return [link.context.span_id for link in span.links]


async def test_a_run_is_a_trace_of_its_own_linked_to_whoever_added_it(docket: Docket, spans: Spans):
    with trace.get_tracer("test").start_as_current_span("request") as request:
        execution = await docket.add(nothing, key="k")()
    await work_off(docket, name="anna")
    add, run = spans.one("docket.add"), spans.one("docket.task.nothing")
    assert add.kind is trace.SpanKind.PRODUCER and run.kind is trace.SpanKind.CONSUMER
    assert add.parent.span_id == request.get_span_context().span_id
    assert run.parent is None and run.context.trace_id != add.context.trace_id
    assert linked_to(run) == [add.context.span_id]
    assert add.attributes["docket.key"] == run.attributes["docket.key"] == execution.key
    assert run.attributes["docket.worker"] == "anna" and run.attributes["docket.attempt"] == 1
    assert run.attributes["docket.outcome"] == "completed"
    assert await execution.get_result() is None


async def test_the_link_survives_waiting_and_other_attempts(docket: Docket, spans: Spans):
    async def fails_once(value: str, retry: Retry = Retry(attempts=2)) -> None:
        if retry.attempt == 1:
            raise ValueError(value)

    await docket.add(fails_once, when=soon(milliseconds=30))("x")
    await work_off(docket)
    first, second = spans.named("docket.task.fails_once")
    assert linked_to(first) == linked_to(second) == [spans.one("docket.add").context.span_id]
    assert first.status.status_code is trace.StatusCode.ERROR and "ValueError: x" in first.status.description
    assert [event.name for event in first.events] == ["exception"]
    assert (first.attributes["docket.outcome"], second.attributes["docket.outcome"]) == ("retry", "completed")
    assert second.status.status_code is trace.StatusCode.UNSET
    assert [each.attributes["docket.attempt"] for each in (first, second)] == [1, 2]


async def test_what_a_task_does_belongs_to_its_run(docket: Docket, spans: Spans):
    """Also what it adds, also in a thread."""

    def in_a_thread(docket: BlockingDocket = CurrentDocket()) -> None:  # type: ignore[assignment]
        with trace.get_tracer("test").start_as_current_span("step"):
            docket.add(nothing)()

    await docket.add(in_a_thread)()
    await work_off(docket)
    run, step = spans.one("docket.task.in_a_thread"), spans.one("step")
    assert step.parent.span_id == run.context.span_id
    added = spans.named("docket.add")[-1]
    assert added.parent.span_id == step.context.span_id
    assert linked_to(spans.one("docket.task.nothing")) == [added.context.span_id]


async def test_runs_do_not_become_children_of_whoever_runs_the_worker(docket: Docket, spans: Spans):
    await docket.add(nothing)()
    with trace.get_tracer("test").start_as_current_span("the test"):
        await work_off(docket)
    assert spans.one("docket.task.nothing").parent is None


async def test_baggage_reaches_the_task(docket: Docket, spans: Spans):
    seen: list[Any] = []

    async def look() -> None:
        seen.append(baggage.get_baggage("tenant"))

    token = context.attach(baggage.set_baggage("tenant", "acme"))
    await docket.add(look)()
    context.detach(token)
    await work_off(docket)
    assert seen == ["acme"]


async def test_a_batch_is_one_span(docket: Docket, spans: Spans):
    await docket.add_many(docket.call(nothing)() for _ in range(3))
    await docket.replace_many([docket.call(nothing, key="k")()])
    await docket.replace(nothing, None, "k")()
    await work_off(docket)
    batch = spans.one("docket.add_many")
    links = [linked_to(run) for run in spans.named("docket.task.nothing")]
    assert links.count([batch.context.span_id]) == 3 and len(links) == 4
    assert links[-1] == [spans.one("docket.replace").context.span_id]
    assert spans.names.count("docket.add") == 0


async def test_every_verb_of_a_client_is_a_span(docket: Docket, redis_url: str, spans: Spans):
    await docket.add(nothing, key="k")()
    await docket.cancel("k")
    await docket.strike(nothing, "x", "==", "secret")
    await docket.restore(nothing, "x", "==", "secret")
    await docket.clear()
    expected = ["docket.add", "docket.cancel", "docket.strike", "docket.restore", "docket.clear"]
    assert spans.names == expected
    assert spans.one("docket.cancel").attributes["docket.key"] == "k"
    assert "secret" not in str([dict(span.attributes) for span in spans.exporter.get_finished_spans()])

    def without_a_loop() -> None:
        with BlockingDocket(docket.name, redis_url) as blocking:
            blocking.add(nothing, key="k")()
            blocking.cancel("k")
            blocking.strike(nothing)
            blocking.restore(nothing)
            blocking.clear()

    await asyncio.to_thread(without_a_loop)
    assert spans.names == expected * 2


async def test_an_error_of_a_client_is_on_its_span(spans: Spans):
    docket = Docket("x", "redis://localhost:1")
    async with docket:
        with pytest.raises(ConnectionError):
            await docket.cancel("k")
    assert spans.one("docket.cancel").status.status_code is trace.StatusCode.ERROR


async def test_a_cancelled_run_has_an_end(docket: Docket, spans: Spans):
    begun = asyncio.Event()

    async def waits() -> None:
        begun.set()
        await asyncio.Event().wait()

    await docket.add(waits, key="k")()
    working = asyncio.create_task(work_off(docket))
    await begun.wait()
    await docket.cancel("k")
    await working
    assert spans.one("docket.task.waits").attributes["docket.outcome"] == "cancelled"


async def test_the_next_turn_of_a_perpetual_task_is_linked(docket: Docket, spans: Spans):
    async def turn(number: int = 0, perpetual: Perpetual = Perpetual()) -> None:
        if number == 1:
            perpetual.cancel()
        perpetual.perpetuate(number + 1)

    await docket.add(turn, key="turn")()
    await work_off(docket)
    first, second = spans.named("docket.task.turn")
    assert linked_to(first) == [spans.one("docket.add").context.span_id]
    assert linked_to(second) == [first.context.span_id], "other arguments: sent by the run before"


async def test_a_header_that_is_no_trace_hurts_nobody(docket: Docket, spans: Spans):
    execution = await docket.add(nothing)()
    body = payload.with_header(b'{"traceparent": 7', payload.dump(((), {})))
    async with docket.redis() as redis:
        await redis.hset(docket.keys.runs(execution.key), "body", body)
    await work_off(docket)
    await execution.sync()
    assert execution.state == "completed"
    assert linked_to(spans.one("docket.task.nothing")) == []


async def test_a_worker_without_traces_reads_what_one_with_traces_wrote(
    docket: Docket, spans: Spans, monkeypatch: pytest.MonkeyPatch
):
    async def echo(value: str) -> str:
        return value

    execution = await docket.add(echo)("x")
    found = await docket.get_execution(execution.key)
    assert found is not None and found.args == ("x",)
    monkeypatch.undo()
    assert not telemetry.tracing()
    await work_off(docket)
    assert await execution.get_result() == "x"


@pytest.fixture
def instrumented(spans: Spans) -> Iterator[Callable[[], list[str]]]:
    """redis-py is instrumented: the names of the commands that it saw."""
    library = pytest.importorskip("opentelemetry.instrumentation.redis", reason="not installed")
    instrumentor = library.RedisInstrumentor()
    instrumentor.instrument(tracer_provider=trace.get_tracer_provider())
    yield lambda: [name for name in spans.names if not name.startswith(("docket.", "user"))]
    instrumentor.uninstrument()


@pytest.mark.parametrize("enabled", [False, True])
async def test_docket_is_silent_about_its_own_commands_unless_asked(
    docket_name: str, redis_url: str, instrumented: Callable[[], list[str]], enabled: bool
):
    async def ask_redis(docket: Docket = CurrentDocket()) -> None:
        async with docket.redis() as redis:
            await redis.get("mine")

    def blocking() -> None:
        with BlockingDocket(docket_name, redis_url, enable_internal_instrumentation=enabled) as docket:
            docket.add("trace")("x")

    async with Docket(docket_name, redis_url, enable_internal_instrumentation=enabled) as docket:
        await docket.add(ask_redis)()
        await asyncio.to_thread(blocking)
        await work_off(
            docket, enable_internal_instrumentation=enabled, redelivery_timeout=timedelta(seconds=1)
        )
    assert "GET" in instrumented(), "what a task asks itself is its own affair"
    others = set(instrumented()) - {"GET"}
    assert ("EVALSHA" in others) if enabled else (others == set())


async def test_one_trace_for_each_thread_of_execution(docket: Docket, spans: Spans):
    """Executions side by side do not see each other's span."""
    together = threading.Barrier(2, timeout=5)
    seen: list[tuple[str, int]] = []

    def look(name: str) -> None:
        together.wait()
        seen.append((name, trace.get_current_span().get_span_context().span_id))
        together.wait()

    await docket.add(look, key="a")("a")
    await docket.add(look, key="b")("b")
    await work_off(docket)
    expected = {
        span.attributes["docket.key"]: span.context.span_id for span in spans.named("docket.task.look")
    }
    assert dict(seen) == expected
