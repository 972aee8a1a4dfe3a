"""Once a turn the supervisor puts on the bulletin how things stand, for those who answer for the service."""

from __future__ import annotations

import os

from docket import clock
from docket_supervisor.bulletin import Bulletin, SlotNotice
from docket_supervisor.crew import Crew
from docket_supervisor.phases import Phase
from docket_supervisor.posts import Post, Sitting
from docket_supervisor.settings import SupervisorSettings

PERIOD = 1.5
"""Seconds between two turns of the supervisor's loop at the most: whoever reads the bulletin can tell by that."""

_PHASES = {
    Phase.STARTING: "starting",
    Phase.STARTING_QUIET: "starting",
    Phase.RUNNING: "running",
    Phase.QUIET: "quiet",
    Phase.DRAINING: "draining",
    Phase.HURRYING: "draining",
    Phase.STOPPING: "stopping",
    Phase.KILLING: "stopping",
    Phase.CLOSING: "closing",
    Phase.GONE: "closing",
}

_STATES = {
    Sitting.VACANT: "vacant",
    Sitting.HIRING: "starting",
    Sitting.BOOTING: "starting",
    Sitting.READY: "working",
    Sitting.RESTING: "resting",
    Sitting.GIVEN_UP: "given-up",
}


class Publisher:
    """Writes only what has changed: the text of a field is away for a moment while it is written."""

    def __init__(self, bulletin: Bulletin, settings: SupervisorSettings, crew: Crew) -> None:
        self._bulletin = bulletin
        self._least_ready = settings.min_ready
        self._crew = crew
        self._shown = len(bulletin.slots)
        """So many may say something; an earlier supervisor may have left them so."""
        self._proven: set[int] = set()
        """Slots that have had a worker that could claim."""
        bulletin.supervisor_pid = os.getpid()
        bulletin.started_at = clock.monotonic()

    def publish(self, phase: Phase, generation: int, template: list[int], steward: list[int]) -> None:
        """The supervisor's loop has turned, and this is how it left things."""
        bulletin = self._bulletin
        if bulletin.phase != _PHASES[phase]:
            bulletin.phase = _PHASES[phase]
        bulletin.quiet = phase in (Phase.QUIET, Phase.STARTING_QUIET)
        bulletin.generation, bulletin.wanted = generation, self._crew.wanted
        bulletin.template_pid = template[0] if template else 0
        bulletin.steward_pid = steward[0] if steward else 0
        slots = self._crew.slots
        for number, post in enumerate(slots):
            self._put_up(bulletin.slots[number], number, post)
        for notice in bulletin.slots[len(slots) : self._shown]:
            notice.seat, notice.state = -1, ""
        self._shown = len(slots)
        needed = self._least_ready or len(slots)
        if slots and len(self._proven.intersection(range(len(slots)))) >= needed:
            bulletin.complete = True
        bulletin.tick()

    def _put_up(self, notice: SlotNotice, number: int, post: Post) -> None:
        if post.sitting is Sitting.READY:
            self._proven.add(number)
        notice.seat = post.number if post.pid else -1
        notice.generation = post.generation
        if notice.state != (state := _STATES[post.sitting]):
            notice.state = state
