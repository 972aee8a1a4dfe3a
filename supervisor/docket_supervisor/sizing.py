"""The number of worker processes while the service runs: who may change it, and to what."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from docket_supervisor.bulletin import Bulletin
from docket_supervisor.crew import Crew
from docket_supervisor.scaling import Sample, Scaling
from docket_supervisor.settings import SupervisorSettings

logger = logging.getLogger("docket.supervisor")

INTERVAL = 1.0
"""Seconds between two samples."""
STALE = 10.0
"""Seconds after which what the steward has measured says nothing about now."""


class Sizing:
    """Within `--min-processes` and `--max-processes`, whoever asks. A number that somebody has asked for holds until
    they leave it to us again.
    """

    def __init__(
        self, settings: SupervisorSettings, crew: Crew, bulletin: Bulletin, rolling: Callable[[], bool]
    ) -> None:
        self._fewest, self._most = settings.min_processes, settings.most
        self._concurrency = settings.worker.concurrency
        self._crew = crew
        self._bulletin = bulletin
        self._rolling = rolling
        self._scaling = Scaling(self._fewest, self._most) if settings.autoscale else None
        self.by_hand = False
        self._next_look = 0.0

    def scale(self, wanted: int, why: str = "") -> str:
        """Why there cannot be so many now; `""`: there will be."""
        if not self._fewest <= wanted <= self._most:
            return f"expected between {self._fewest} and {self._most} processes, got {wanted}"
        if wanted != self._crew.wanted and self._rolling():
            return "a rolling restart is going on"
        self.by_hand = not why
        if wanted != self._crew.wanted:
            logger.info(
                "scaling from %d to %d processes%s", self._crew.wanted, wanted, f": {why}" if why else ""
            )
            self._crew.resize(wanted)
        return ""

    def by(self, more: int) -> None:
        """What TTIN and TTOU do."""
        if problem := self.scale(self._crew.wanted + more):
            logger.warning("staying at %d processes: %s", self._crew.wanted, problem)

    def leave_to_us(self) -> str:
        """From now on the work decides; why not, if there is no range to choose from."""
        if self._scaling is None:
            return "the service has no range to choose from: start it with --processes MIN..MAX"
        self.by_hand = False
        return ""

    def turn(self, now: float, *, serving: bool) -> float:
        """Looks whether the work needs more or fewer; returns when to be called again."""
        if self._scaling is None:
            return math.inf
        if now >= self._next_look:
            self._next_look = now + INTERVAL
            queue = self._bulletin.queue
            fresh = queue is not None and now - queue.at < STALE and self._bulletin.reachable is not False
            if serving and fresh and queue is not None and not self.by_hand and not self._rolling():
                self._consider(self._sample(now, queue.due, queue.latency))
        return self._next_look

    def _sample(self, now: float, due: int, latency: float) -> Sample:
        return Sample(
            at=now,
            size=self._crew.wanted,
            ready=self._crew.ready,
            busy=sum(self._crew.busy),
            places=self._crew.ready * self._concurrency,
            due=due,
            latency=latency,
        )

    def _consider(self, sample: Sample) -> None:
        assert self._scaling is not None
        if (wanted := self._scaling.decide(sample)) != sample.size:
            self.scale(wanted, sample.reason)
