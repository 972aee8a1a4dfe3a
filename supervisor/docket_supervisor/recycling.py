"""Workers that have served for long enough are replaced: one at a time, and each by one that is ready before."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from docket import clock
from docket_supervisor.crew import Crew
from docket_supervisor.limits import SAMPLE_EVERY, Lifespan, Limits
from docket_supervisor.memory import private_bytes
from docket_supervisor.posts import Post, Sitting
from docket_supervisor.reliefs import Milestone, Relief, Reliefs
from docket_supervisor.restarts import FIRST_DELAY, LONGEST_DELAY
from docket_supervisor.sources import Sources

logger = logging.getLogger("docket.supervisor")

LOOK_EVERY = 0.5
"""Seconds between two looks at what the workers have run: that limit is a soft one, so it need not be less."""


class Recycling:
    """A worker above its limit works on until its replacement is ready, however long that takes."""

    def __init__(
        self,
        limits: Limits,
        crew: Crew,
        sources: Sources,
        reliefs: Reliefs,
        *,
        measure: Callable[[int], int | None] = private_bytes,
    ) -> None:
        self._limits = limits
        self._crew = crew
        self._sources = sources
        self._reliefs = reliefs
        self._measure = measure
        self._lives: dict[int, Lifespan] = {}
        self._relief: Relief | None = None
        self._sample_at = -math.inf
        self._failures = 0
        self._retry_at = 0.0

    def turn(self, now: float, *, rolling: bool) -> float:
        """Returns when to be called again. During a roll nobody is recycled: it replaces everybody anyway."""
        self._reliefs.turn()
        if not self._limits.any:
            return math.inf
        working = [post for post in self._crew.slots if post.sitting is Sitting.READY]
        self._look(working, now)
        if self._relief is None and not rolling and now >= self._retry_at:
            self._replace(working)
        return now + LOOK_EVERY

    def _look(self, working: list[Post], now: float) -> None:
        lives = {post.pid: self._lives.get(post.pid) or Lifespan(self._limits) for post in working}
        self._lives = lives
        sampling = self._limits.max_memory is not None and now >= self._sample_at
        if sampling:
            self._sample_at = now + SAMPLE_EVERY
        for post in working:
            life = lives[post.pid]
            life.ran(post.seat.totals.started)
            life.aged(now - post.forked_at)
            if sampling and (private := self._measure(post.pid)) is not None:
                life.measured(private)

    def _replace(self, working: list[Post]) -> None:
        """Of those above a limit, the one that has been there for longest."""
        over = [post for post in working if self._lives[post.pid].over]
        if not over:
            return
        post = min(over, key=lambda post: post.forked_at)
        relief = self._reliefs.begin(post.slot, self._sources.current, self._told)
        if relief is not None:
            self._relief = relief
            logger.info("recycling %s: %s", post.title, self._lives[post.pid].over)

    def _told(self, milestone: Milestone, cause: str) -> None:
        self._relief = None
        if milestone is Milestone.DONE:
            self._failures = 0
            return
        self._failures += 1
        pause = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (self._failures - 1))
        self._retry_at = clock.monotonic() + pause
        logger.warning("a replacement %s; the worker that it was to relieve works on", cause)
