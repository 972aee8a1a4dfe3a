"""What the supervisor may do: validated once, with sentences that name the option."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from datetime import timedelta

from docket.durations import describe
from docket.logs import LogFormat, LogLevel, checked_format, checked_level, default_format
from docket.processors import processors
from docket.settings import DocketSettings, refuse_strangers
from docket_runtime.settings import WorkerSettings
from docket_supervisor.limits import Limits

RESERVED_SECONDS = 3.0
"""How long the steward may take to hand over what a killed worker held, before the supervisor leaves anyway."""


SPARES = 2
"""Seats: the spare's, and that of a worker which one has taken over from and that has not left yet."""


def option(name: str) -> str:
    """The option that a field is set with: `boot_timeout` is `--boot-timeout`."""
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class SupervisorSettings:
    """One service: which docket, what each worker may do, and how many of them are kept.

    `kill_margin` is no option: it is the difference between the worker's patience and ours, so that a worker always
    has the time to hand its work back before it is killed.
    """

    docket: DocketSettings = field(default_factory=DocketSettings)
    worker: WorkerSettings = field(default_factory=WorkerSettings)
    processes: int = field(default_factory=processors)
    min_processes: int = 1
    max_processes: int | None = None
    autoscale: bool = False
    """Between these bounds the supervisor chooses; otherwise they hold for signals and commands."""
    min_ready: int | None = None
    pidfile: str | None = None
    control_socket: str | None = None
    stop_timeout: timedelta | None = None
    """How long whoever has started us waits until we are killed: TimeoutStopSec, terminationGracePeriodSeconds."""
    boot_timeout: timedelta = timedelta(seconds=60)
    hang_timeout: timedelta = timedelta(seconds=60)
    """Zero: nobody is killed because its loop does not turn."""
    slow_after: timedelta = timedelta(minutes=5)
    """Zero: the age of an execution is never reported."""
    max_restarts: int = 5
    restart_window: timedelta = timedelta(seconds=60)
    canary: timedelta = timedelta(seconds=5)
    limits: Limits = field(default_factory=Limits)
    preload: bool = True
    share_memory: bool = True
    strict_fork: bool = False
    worker_setup: str | None = None
    """`module:function` that every worker calls once it has been forked, before it takes work."""
    health_port: int | None = None
    health_host: str = "127.0.0.1"
    require_redis: bool = False
    app_dir: str = "."
    watch: bool = False
    log_format: LogFormat = field(default_factory=default_format)
    log_level: LogLevel = "INFO"
    short_drain: timedelta = timedelta(seconds=5)
    kill_margin: timedelta = timedelta(seconds=2)
    redis_patience: timedelta = timedelta(seconds=10)

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise ValueError(f"expected --processes to be at least 1, got {self.processes}")
        self._check_bounds()
        refuse_strangers(self.worker.serve_partitions, self.docket.partitions)
        if self.max_restarts < 0:
            raise ValueError(f"expected --max-restarts to be zero or more, got {self.max_restarts}")
        for name in ("hang_timeout", "slow_after"):
            if (duration := getattr(self, name)) < timedelta(0):
                raise ValueError(f"expected {option(name)} to be zero or more, got {describe(duration)}")
        for name in ("boot_timeout", "restart_window"):
            if (duration := getattr(self, name)) <= timedelta(0):
                raise ValueError(f"expected {option(name)} to be above zero, got {describe(duration)}")
        if self.canary < timedelta(0):
            raise ValueError(f"expected --canary to be zero or more, got {describe(self.canary)}")
        if self.health_port is not None and not 0 <= self.health_port <= 65535:
            raise ValueError(f"expected --health-port to be between 0 and 65535, got {self.health_port}")
        if self.worker_setup is not None and not all(self.worker_setup.partition(":")):
            raise ValueError(f"expected --worker-setup as module:function, got {self.worker_setup!r}")
        if not os.path.isdir(self.app_dir):
            raise ValueError(f"expected --app-dir to be a folder, got {self.app_dir!r}")
        checked_format(self.log_format)
        checked_level(self.log_level)
        if self.worker.drain_timeout is None:
            raise ValueError(
                "expected --drain-timeout to be a duration: a supervisor does not drain for ever"
            )
        if self.worker.drain_timeout >= self.grace:
            raise ValueError(
                f"expected a worker's drain ({describe(self.worker.drain_timeout)}) to end before the supervisor's "
                f"grace ({describe(self.grace)})"
            )
        if self.stop_timeout is not None and self.stop_timeout <= self.longest_stop:
            raise ValueError(
                f"expected --stop-timeout to be above {describe(self.longest_stop)}, which a stop may take with "
                f"a --drain-timeout of {describe(self.drain_timeout)}, got {describe(self.stop_timeout)}"
            )

    def _check_bounds(self) -> None:
        if self.min_processes < 1:
            raise ValueError(f"expected --min-processes to be at least 1, got {self.min_processes}")
        if self.most < self.min_processes:
            raise ValueError(
                f"expected --max-processes to be at least --min-processes ({self.min_processes}), got {self.most}"
            )
        if not self.min_processes <= self.processes <= self.most:
            raise ValueError(
                f"expected --processes to be between --min-processes and --max-processes ({self.min_processes} and "
                f"{self.most}), got {self.processes}"
            )
        if self.min_ready is not None and not 1 <= self.min_ready <= self.processes:
            raise ValueError(
                f"expected --min-ready to be between 1 and --processes ({self.processes}), got {self.min_ready}"
            )

    @property
    def most(self) -> int:
        """Never more slots than these; seats on the board are made for them."""
        return self.max_processes if self.max_processes is not None else max(4 * self.processes, 16)

    @property
    def drain_timeout(self) -> timedelta:
        """What a worker is given to finish; validated to be set."""
        return self.worker.drain_timeout or timedelta(0)

    @property
    def grace(self) -> timedelta:
        """From the first signal until workers that are still alive are killed."""
        return self.drain_timeout + self.kill_margin

    @property
    def longest_stop(self) -> timedelta:
        """From the first signal until we are gone."""
        return self.grace + timedelta(seconds=RESERVED_SECONDS)

    @property
    def seats(self) -> int:
        """Pages on the board: for each slot that may come to be, as many for quarantine, those of surge and spare."""
        return 2 * self.most + self.surge + SPARES

    @property
    def surge(self) -> int:
        """Workers beyond the slots that may be there while some are being replaced."""
        return self.most if self.watch else 1


def in_options(error: ValueError) -> str:
    """The sentence of a settings class, which names fields, in the words of a command line."""
    known = {entry.name for entry in (*fields(WorkerSettings), *fields(SupervisorSettings))} | {"partitions"}
    expected, space, rest = str(error).partition(" ")
    name, _, more = rest.partition(" ")
    return f"{expected}{space}{option(name)} {more}" if name in known else str(error)
