"""Slots handed on from one worker to another: the relief is ready before the old worker drains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto

from docket_supervisor.crew import Crew
from docket_supervisor.hiring import Hiring
from docket_supervisor.posts import Post, Role, Sitting


class Milestone(Enum):
    READY = auto()
    """The relief can claim; told only of one that is on probation."""
    DONE = auto()
    """The relief stands for the slot, and the old worker has left."""
    FAILED = auto()
    """The relief has died; the old worker stands for the slot as if nothing had been."""


@dataclass(eq=False)
class Relief:
    post: Post
    told: Callable[[Milestone, str], None]
    """Called at each milestone, with the cause of a failure."""
    grace: timedelta | None
    """What the old worker is given to finish what it runs; None: as long as at the service's end."""
    probation: bool
    """Being ready does not make it stand for the slot; `confirm` does."""
    old: Post | None = None
    """Set when the slot has been handed on."""
    ready: bool = False


class Reliefs:
    """As many at a time as there are free seats, which is one: no slot is ever without a worker that works, and never
    is there more than one process more than usual.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._going: list[Relief] = []
        crew.relief_failed = self._failed

    def begin(
        self,
        slot: int,
        source: Hiring,
        told: Callable[[Milestone, str], None],
        *,
        probation: bool = False,
        grace: timedelta | None = None,
    ) -> Relief | None:
        """A worker from this source is to take over this slot; None if no seat is free for it now."""
        post = self._crew.relieve(slot, source)
        if post is None:
            return None
        relief = Relief(post, told, grace, probation)
        self._going.append(relief)
        return relief

    def confirm(self, relief: Relief) -> None:
        """The probation is over: it takes the slot over."""
        relief.probation = False
        self._take_over(relief)

    def call_off(self, relief: Relief) -> None:
        """Nobody is told of it any more; if it stands for no slot yet it leaves, and may finish what it runs."""
        if relief in self._going:
            self._going.remove(relief)
            if relief.old is None:
                self._crew.retire(relief.post, relief.grace)

    def turn(self) -> None:
        """Hands on to whoever has become ready."""
        for relief in list(self._going):
            if relief.old is None and relief.post.sitting is Sitting.READY and not relief.ready:
                relief.ready = True
                if relief.probation:
                    relief.told(Milestone.READY, "")
                else:
                    self._take_over(relief)
            if relief.old is not None and relief.old.role is not Role.RETIRING:
                self._going.remove(relief)
                relief.told(Milestone.DONE, "")

    def _take_over(self, relief: Relief) -> None:
        relief.old = self._crew.slots[relief.post.slot]
        self._crew.hand_on(relief.post, relief.grace)

    def _failed(self, post: Post, cause: str) -> None:
        relief = next((each for each in self._going if each.post is post and each.old is None), None)
        if relief is not None:
            self._going.remove(relief)
            relief.told(Milestone.FAILED, cause)
