"""A rolling restart: the new code is imported beside the old, tried by a canary, and taken over slot by slot."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from docket import clock
from docket.durations import describe
from docket_supervisor.crew import Crew
from docket_supervisor.reliefs import Milestone, Relief, Reliefs
from docket_supervisor.restarts import FIRST_DELAY, LONGEST_DELAY
from docket_supervisor.rolls import Happening, Stage, Step, after
from docket_supervisor.settings import SupervisorSettings
from docket_supervisor.sources import Sources

logger = logging.getLogger("docket.supervisor")


@dataclass(frozen=True)
class Manner:
    """How a roll goes about it."""

    canary: timedelta
    """How long the first worker is watched before the others follow."""
    grace: timedelta | None = None
    """What each old worker is given to finish; None: the drain timeout."""
    supersedes: bool = False
    """Code that is still on trial is forgotten for it."""


class Roll:
    """Carries out the table in `rolls`, one roll at a time; one that is asked for meanwhile follows."""

    def __init__(
        self,
        settings: SupervisorSettings,
        crew: Crew,
        sources: Sources,
        reliefs: Reliefs,
        *,
        began: Callable[[], None],
        ended: Callable[[str], None],
    ) -> None:
        """`ended` is called with why the roll was undone, `""` if it was not."""
        self._settings = settings
        self._crew = crew
        self._sources = sources
        self._reliefs = reliefs
        self._began, self._ended = began, ended
        self.ended = 0
        """How many have ended, whichever way."""
        self.problem = ""
        """Why the last one was undone; `""` if it was not."""
        self._stage = Stage.IDLE
        self._wanted: Manner | None = None
        self._manner = Manner(settings.canary)
        self._canary: Relief | None = None
        self._under_way: dict[int, Relief] = {}
        self._reset()

    def _reset(self) -> None:
        self._started_at = clock.monotonic()
        self._import_by = self._watch_until = math.inf
        self._retry_at = 0.0
        self._failures = self._replaced = 0
        self._reason = ""

    @property
    def going(self) -> bool:
        """One goes on, or is about to."""
        return self._stage is not Stage.IDLE or self._wanted is not None

    def ask(self, manner: Manner | None = None) -> None:
        """Begins at the next turn, or when the one that goes on has ended."""
        self._wanted = manner or Manner(self._settings.canary)
        if self._wanted.supersedes:
            self._happened(Happening.SUPERSEDED)
        if self._stage is not Stage.IDLE:
            logger.info("a reload is going on; another one follows it")

    def leave(self) -> None:
        """The service is told to stop: nothing new is begun or tried any more."""
        self._wanted = None
        self._happened(Happening.LEAVING)

    def turn(self, now: float) -> float:
        """Goes on as far as possible; returns when to be called again."""
        self._reliefs.turn()
        if self._stage is Stage.IDLE:
            if self._wanted is None:
                return math.inf
            self._manner, self._wanted = self._wanted, None
            self._happened(Happening.ASKED)
            return now
        if self._stage in (Stage.ROLLING, Stage.UNDOING):
            return self._replace(now)
        return self._try(now)

    # On trial

    def _try(self, now: float) -> float:
        other = self._sources.trial
        if other.failure:
            return self._fail(other.failure)
        if self._stage is Stage.IMPORTING:
            if other.imported:
                self._happened(Happening.IMPORTED)
            elif now >= self._import_by:
                limit = describe(self._settings.boot_timeout)
                return self._fail(f"the task modules did not finish importing within {limit}")
            else:
                return self._import_by
        if self._stage is Stage.BOOTING and self._canary is None:
            # The seat may be in use, by a worker that has been recycled and drains.
            self._canary = self._reliefs.begin(
                0, other, self._canary_told, probation=True, grace=self._manner.grace
            )
        if self._stage is Stage.WATCHING and now >= self._watch_until:
            self._happened(Happening.PASSED)
            return now
        return self._watch_until

    def _canary_told(self, milestone: Milestone, cause: str) -> None:
        match milestone:
            case Milestone.READY:
                self._happened(Happening.READY)
            case Milestone.FAILED:
                self._fail(f"the canary {cause}")
            case Milestone.DONE:
                self._told(0, milestone, cause)

    def _fail(self, reason: str) -> float:
        self._reason = reason
        self._happened(Happening.FAILED)
        return clock.monotonic()

    # In service

    def _replace(self, now: float) -> float:
        old = [slot for slot, post in enumerate(self._crew.slots) if post.source is not self._sources.current]
        if self._stage is Stage.UNDOING and not self._sources.current.keeps_code:
            # The old code is nowhere any more: replacing those that work with the new one would only lose them.
            old = []
        if not old and not self._under_way:
            self._happened(Happening.COMPLETE)
            return now
        if now < self._retry_at:
            return self._retry_at
        for slot in old:
            if slot in self._under_way:
                continue
            told = self._told_of(slot)
            relief = self._reliefs.begin(slot, self._sources.current, told, grace=self._manner.grace)
            if relief is None:
                break
            self._under_way[slot] = relief
        return math.inf

    def _told_of(self, slot: int) -> Callable[[Milestone, str], None]:
        return lambda milestone, cause: self._told(slot, milestone, cause)

    def _told(self, slot: int, milestone: Milestone, cause: str) -> None:
        self._under_way.pop(slot, None)
        if milestone is Milestone.DONE:
            self._replaced += 1
            self._failures = 0
            return
        self._failures += 1
        pause = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (self._failures - 1))
        self._retry_at = clock.monotonic() + pause
        if self._stage is Stage.ROLLING and self._failures > self._settings.max_restarts:
            self._reason = f"slot {slot} could not be handed on: its new worker {cause}"
            self._happened(Happening.HOPELESS)

    # Carrying out

    def _happened(self, happening: Happening) -> None:
        move = after(self._stage, happening)
        self._stage = move.stage
        for step in move.steps:
            self._carry_out(step)

    def _carry_out(self, step: Step) -> None:
        now = clock.monotonic()
        match step:
            case Step.IMPORT:
                self._reset()
                self._began()
                self._sources.try_another()
                self._import_by = now + self._settings.boot_timeout.total_seconds()
                logger.info("reloading: generation %d is to follow", self._sources.trial.generation)
            case Step.TRY:
                logger.info("generation %d has imported; a canary tries it", self._sources.trial.generation)
            case Step.WATCH:
                self._watch_until = now + self._manner.canary.total_seconds()
            case Step.ADOPT:
                self._adopt()
            case Step.RESTORE:
                logger.error("undoing the reload: %s", self._reason)
                self._call_off()
                self._retry_at, self._failures = 0.0, 0
                self._sources.swap()
                self._crew.hire_from(self._sources.current)
            case Step.DISCARD:
                self._call_off()
                self._sources.discard()
            case Step.SUCCEED:
                took = now - self._started_at
                generation = self._sources.current.generation
                logger.info(
                    "generation %d is in service: %d workers replaced in %.1fs",
                    generation,
                    self._replaced,
                    took,
                )
                self._end("")
            case Step.UNDONE:
                generation = self._sources.current.generation
                logger.error("reload undone, generation %d stays in service: %s", generation, self._reason)
                self._end(self._reason)

    def _end(self, problem: str) -> None:
        self.ended += 1
        self.problem = problem
        self._ended(problem)

    def _adopt(self) -> None:
        self._sources.swap()
        self._crew.hire_from(self._sources.current)
        if self._canary is not None:
            logger.info("generation %d has passed its trial", self._sources.current.generation)
            self._under_way[0] = self._canary
            self._reliefs.confirm(self._canary)
            self._canary = None

    def _call_off(self) -> None:
        for relief in (*self._under_way.values(), *([self._canary] if self._canary else ())):
            self._reliefs.call_off(relief)
        self._under_way.clear()
        self._canary = None
