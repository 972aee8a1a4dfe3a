"""What one worker may do: validated once, read by the API, the command lines and the supervisor."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from docket.durations import positive, zero_or_more

DEFAULT_TASKS = ("docket.tasks:standard_tasks",)
LOOPBACK = "127.0.0.1"
SHORT_DRAIN = timedelta(seconds=5)


@dataclass(frozen=True)
class WorkerSettings:
    """The conduct of one worker.

    `minimum_check_interval`, `scheduling_resolution` and `message_batch` are kept for users who come from the
    reference: they are upper bounds of waiting and of one exchange. Nothing polls at them. `result_storage` names a
    storage, or a function that makes one, as module:object; `dependencies` what is opened around every task. The ports
    answer for this worker alone.
    """

    name: str | None = None
    concurrency: int = 10
    threads: int | None = None
    redelivery_timeout: timedelta = timedelta(minutes=5)
    reconnection_delay: timedelta = timedelta(seconds=5)
    minimum_check_interval: timedelta = timedelta(milliseconds=250)
    scheduling_resolution: timedelta = timedelta(milliseconds=250)
    message_batch: int = 1000
    drain_timeout: timedelta | None = timedelta(seconds=30)
    max_crashes: int = 3
    tasks: tuple[str, ...] = DEFAULT_TASKS
    fallback_task: str | None = None
    until_finished: bool = False
    schedule_automatic_tasks: bool = True
    result_storage: str | None = None
    dependencies: str | None = None
    enable_internal_instrumentation: bool = False
    metrics_host: str = LOOPBACK
    metrics_port: int | None = None
    healthcheck_host: str = LOOPBACK
    healthcheck_port: int | None = None
    serve_partitions: tuple[int, ...] | None = None
    """Of a docket that is split; None: all."""

    def __post_init__(self) -> None:
        for option in ("concurrency", "threads", "message_batch", "max_crashes"):
            value = getattr(self, option)
            if value is not None and not (isinstance(value, int) and value >= 1):
                raise ValueError(f"expected {option} to be at least 1, got {value!r}")
        for option in (
            "redelivery_timeout",
            "reconnection_delay",
            "minimum_check_interval",
            "scheduling_resolution",
        ):
            positive(getattr(self, option), option)
        if self.drain_timeout is not None:
            zero_or_more(self.drain_timeout, "drain_timeout")
        for reference in self.tasks:
            module, colon, attribute = reference.partition(":")
            if not (module and colon and attribute):
                raise ValueError(f"expected tasks as module:collection, got {reference!r}")
        for option in ("result_storage", "dependencies"):
            value = getattr(self, option)
            if value is not None and not all(value.partition(":")):
                raise ValueError(f"expected {option} as module:object, got {value!r}")
        for option in ("metrics_port", "healthcheck_port"):
            value = getattr(self, option)
            if value is not None and not 0 <= value <= 65535:
                raise ValueError(f"expected {option} to be between 0 and 65535, got {value}")

    @property
    def thread_count(self) -> int:
        return self.concurrency if self.threads is None else self.threads
