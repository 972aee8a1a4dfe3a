"""What a worker tells OpenTelemetry of its runs: spans and metrics, made in this process, so after any fork.

Only there if a provider has been configured before the worker runs; else the worker never comes here.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from redis.exceptions import RedisError

from docket import payload, telemetry
from docket.errors import DocketError
from docket.execution import Execution
from docket.propagation import message_getter, unpacked
from docket.store.ledgers import AnyLedger
from docket_runtime.board import Board
from docket_runtime.outcomes import Outcome

if TYPE_CHECKING:
    from docket_runtime.worker import Worker

_LOG = logging.getLogger("docket.worker")

_GOOD = frozenset({"completed", "perpetuate"})


class CountingBoard:
    """A board that also counts; whoever reads the board it stands for reads the same as before."""

    def __init__(self, board: Board, docket: str, worker: str) -> None:
        self._board = board
        self._known = telemetry.instruments()
        self._common = {"docket.name": docket, "docket.worker": worker}
        self._labels: dict[str, dict[str, str]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._board, name)

    def _labels_of(self, task: str) -> dict[str, str]:
        labels = self._labels.get(task)
        if labels is None:
            labels = self._labels[task] = {**self._common, "docket.task": task}
        return labels

    def started(self, task: str, redelivered: bool, late: float) -> None:
        self._board.started(task, redelivered, late)
        known, labels = self._known, self._labels_of(task)
        known.TASKS_STARTED.add(1, labels)
        known.TASKS_RUNNING.add(1, labels)
        known.TASK_PUNCTUALITY.record(late, labels)
        if redelivered:
            known.TASKS_REDELIVERED.add(1, labels)

    def finished(self, task: str, outcome: str, failed: bool, seconds: float) -> None:
        self._board.finished(task, outcome, failed, seconds)
        known, labels = self._known, self._labels_of(task)
        known.TASKS_RUNNING.add(-1, labels)
        known.TASKS_COMPLETED.add(1, labels)
        known.TASK_DURATION.record(seconds, labels)
        if failed:
            known.TASKS_FAILED.add(1, labels)
        elif outcome in _GOOD:
            known.TASKS_SUCCEEDED.add(1, labels)
        if outcome == "retry":
            known.TASKS_RETRIED.add(1, labels)
        elif outcome == "perpetuate":
            known.TASKS_PERPETUATED.add(1, labels)


def count(name: str, worker: Worker, task: str | None = None) -> None:
    """For what happens rarely, and is nothing that a board is told."""
    if telemetry.metering():
        labels = {"docket.name": worker.docket.name, "docket.worker": worker.name}
        getattr(telemetry.instruments(), name).add(
            1, labels if task is None else {**labels, "docket.task": task}
        )


def counting(board: Board, docket: str, worker: str) -> Board:
    """The board, counting if somebody wants metrics."""
    return cast(Board, CountingBoard(board, docket, worker)) if telemetry.metering() else board


class Depths:
    """Measures from time to time how much there is to do. Only where nobody else does: not under a supervisor."""

    def __init__(self, worker: Worker, ledger: AnyLedger) -> None:
        self._worker, self._ledger = worker, ledger

    async def run(self) -> None:
        known, docket = telemetry.instruments(), self._worker.docket
        labels = {"docket.name": docket.name}
        known.CACHE_SIZE.set(
            len(docket.tasks), {**labels, "docket.worker": self._worker.name, "cache": "tasks"}
        )
        while True:
            try:
                figures = await self._ledger.figures()
            except (RedisError, DocketError, OSError) as error:
                _LOG.debug("could not measure the depths: %s", error)
            else:
                known.QUEUE_DEPTH.set(figures.due, labels)
                known.SCHEDULE_DEPTH.set(figures.scheduled, labels)
                known.QUEUE_LATENCY.set(figures.latency, labels)
                known.DEAD_LETTERS.set(figures.dead, labels)
            await asyncio.sleep(docket.heartbeat_interval.total_seconds())


async def traced(execution: Execution, body: bytes, run: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """Runs it in a span of its own, linked to whoever scheduled it: that may have been long ago, and in another trace.

    Baggage is passed on to the task."""
    trace = sys.modules["opentelemetry.trace"]
    context = import_module("opentelemetry.context")
    sent = import_module("opentelemetry.propagate").extract(
        unpacked(payload.header_of(body)), context=context.Context(), getter=message_getter
    )
    sender = trace.get_current_span(sent).get_span_context()
    span = trace.get_tracer("docket").start_span(
        f"docket.task.{execution.function_name}",
        context=context.Context(),
        kind=trace.SpanKind.CONSUMER,
        attributes=_attributes(execution),
        links=[trace.Link(sender)] if sender.is_valid else [],
    )
    token = context.attach(trace.set_span_in_context(span, sent))
    try:
        outcome = await run()
        span.set_attribute("docket.outcome", outcome.verb)
        return outcome
    finally:
        context.detach(token)
        span.end()


def sent_by_this_run(body: bytes) -> bytes:
    """Of the run that follows, with other arguments."""
    return payload.with_header(telemetry.header(), body)


def _attributes(execution: Execution) -> telemetry.Attributes:
    return {
        "docket.name": execution.docket.name,
        "docket.worker": execution.worker or "",
        "docket.task": execution.function_name,
        "docket.key": execution.key,
        "docket.when": execution.when.isoformat(),
        "docket.attempt": execution.attempt,
        "docket.redelivered": execution.redelivered,
    }


def record_failure(error: BaseException) -> None:
    """The current span tells what was raised."""
    trace = sys.modules["opentelemetry.trace"]
    span = trace.get_current_span()
    span.record_exception(error)
    span.set_status(trace.StatusCode.ERROR, payload.describe(error))


def flush(within: float = 3.0) -> None:
    """What has been recorded is sent, or `within` seconds have passed. A process that leaves at once would lose it."""
    providers: list[Any] = []
    if telemetry.tracing():
        providers.append(sys.modules["opentelemetry.trace"].get_tracer_provider())
    if telemetry.metering():
        providers.append(sys.modules["opentelemetry.metrics"].get_meter_provider())
    threads = [
        threading.Thread(target=_flush, args=(provider, within), name="docket flush", daemon=True)
        for provider in providers
        if callable(getattr(provider, "force_flush", None))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(within)


def _flush(provider: Any, within: float) -> None:
    try:
        provider.force_flush(timeout_millis=int(within * 1000))
    except Exception as error:  # an exporter of the user's
        _LOG.warning("telemetry could not be sent: %s", payload.describe(error))
