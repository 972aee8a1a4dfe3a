"""What Prometheus is shown: the board and what the steward measures, in the words of the client library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from docket import clock
from docket_supervisor.board import Board, Seat
from docket_supervisor.readiness import workers
from docket_supervisor.tally import BOUNDS, COUNTERS, Histogram, TaskCounts

_STALE = 10.0
"""Seconds after which figures from Redis are not shown any more: none says more than wrong ones."""

_TOLERATED = 0.25
"""Seconds by which a tick may be late that is nothing unusual."""

_STATES = ("starting", "working", "quiet", "draining", "spare", "beside")

_HELP = {
    "started": "Runs that began",
    "redelivered": "Runs that began after an earlier worker had not finished them",
    "completed": "Runs that ended, however they ended",
    "succeeded": "Runs that ended without an error",
    "failed": "Runs that raised, whether or not they are tried again",
    "retried": "Runs that raised and are tried again",
    "perpetuated": "Runs of perpetual tasks that are followed by another one",
    "cancelled": "Runs that were cancelled",
}


def expose(collectors: Iterable[Collector], accept: str) -> tuple[bytes, str]:
    """The text and its content type, as the `Accept` header prefers it."""
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class Runs(Collector):
    """What tasks have done: counters and histograms by task."""

    def __init__(self, docket: str, rows: Iterable[TaskCounts]) -> None:
        self._docket = docket
        self._rows = list(rows)

    def collect(self) -> Iterator[Metric]:
        labels = ("docket_name", "docket_task")
        for counter in COUNTERS:
            family = CounterMetricFamily(f"docket_tasks_{counter}", _HELP[counter], labels=labels)
            for row in self._rows:
                family.add_metric((self._docket, row.task), row[counter])
            yield family
        duration = HistogramMetricFamily("docket_task_duration_seconds", "How long runs took", labels=labels)
        lateness = HistogramMetricFamily(
            "docket_task_punctuality_seconds", "How long after they were due runs began", labels=labels
        )
        for row in self._rows:
            for family, histogram in ((duration, row.seconds), (lateness, row.late)):
                family.add_metric((self._docket, row.task), _cumulative(histogram), histogram.total)
        yield duration
        yield lateness


class Application(Collector):
    """The tasks' own metrics, from the files of the client's multiprocess mode."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def collect(self) -> Iterator[Metric]:
        # The client stumbles over a file that another process has made and not filled yet: it says nothing so far.
        files = [str(path) for path in sorted(self._folder.glob("*.db")) if _size(path)]
        # Its types do not say what it takes and gives: the paths of files, and metrics.
        merge: Callable[[list[str]], Iterable[Metric]] = MultiProcessCollector.merge  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        yield from merge(files)


def _size(path: Path) -> int:
    """0 also if it has just been taken away."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class Service(Collector):
    """How the processes are, and how much there is to do."""

    def __init__(self, docket: str, board: Board) -> None:
        self._docket = docket
        self._board = board

    def collect(self) -> Iterator[Metric]:
        yield from self._processes()
        yield from self._queue()

    def _gauge(self, name: str, help: str, label: str = "") -> GaugeMetricFamily:
        return GaugeMetricFamily(name, help, labels=("docket_name", label) if label else ("docket_name",))

    def _processes(self) -> Iterator[Metric]:
        working, everybody = workers(self._board), [seat for seat in self._board.seats if seat.pid]
        bases = {id(seat) for seat in working}
        states = Counter(seat.phase or "starting" for seat in working)
        beside = [seat for seat in everybody if id(seat) not in bases]
        states["spare"] = sum(1 for seat in beside if seat.phase == "parked")
        states["beside"] = len(beside) - states["spare"]
        family = self._gauge(
            "docket_worker_processes",
            "Worker processes by state; beside: those that stand for no slot (quarantine, replacements, retired ones)",
            "state",
        )
        for state in _STATES:
            family.add_metric((self._docket, state), states[state])
        yield family
        deaths = CounterMetricFamily(
            "docket_worker_deaths",
            "Worker processes that died without having been asked to leave",
            labels=("docket_name", "cause"),
        )
        for cause, count in self._board.bulletin.deaths().items():
            deaths.add_metric((self._docket, cause), count)
        yield deaths
        lag = self._gauge("docket_loop_lag_seconds", "For how long an event loop has not turned", "slot")
        for number, notice in enumerate(self._board.bulletin.slots):
            if notice.seat >= 0 and (seat := self._board.seats[notice.seat]).ticked_at:
                lag.add_metric((self._docket, str(number)), loop_lag(seat))
        yield lag
        running = self._gauge("docket_tasks_running", "Runs under way", "docket_task")
        for task, count in sorted(Counter(run.task for seat in everybody for run in seat.inflight).items()):
            running.add_metric((self._docket, task), count)
        yield running

    def _queue(self) -> Iterator[Metric]:
        queue = self._board.bulletin.queue
        if queue is None or clock.monotonic() - queue.at > _STALE:
            return
        for name, help, value in (
            ("docket_queue_depth", "Executions that are due and not claimed", queue.due),
            ("docket_schedule_depth", "Executions that are not due yet", queue.scheduled),
            (
                "docket_queue_latency_seconds",
                "For how long the oldest due execution has been due",
                queue.latency,
            ),
            ("docket_dead_letters", "Executions that were set aside", queue.dead),
        ):
            family = self._gauge(name, help)
            family.add_metric((self._docket,), value)
            yield family


def loop_lag(seat: Seat) -> float:
    """Seconds by which the last tick was late, or by which the next one is overdue already."""
    return max(seat.loop_lag, clock.monotonic() - seat.ticked_at - seat.pause - _TOLERATED, 0.0)


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    below, buckets = 0, list[tuple[str, float]]()
    for bound, count in zip((*map(repr, BOUNDS), "+Inf"), histogram.buckets, strict=True):
        below += count
        buckets.append((bound, below))
    return buckets
