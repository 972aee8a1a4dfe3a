"""The service as it stands is put into an estate, and taken out of it again by the next program."""

from __future__ import annotations

import math

from docket_supervisor.board import Board
from docket_supervisor.channel import Notices
from docket_supervisor.child import Inheritance
from docket_supervisor.crew import Crew
from docket_supervisor.estate import Estate, Occupant, Reception
from docket_supervisor.layout import layout
from docket_supervisor.lifeline import Lifeline
from docket_supervisor.listening import Entrance
from docket_supervisor.metrics_files import MetricsFiles
from docket_supervisor.phases import SERVING, Phase
from docket_supervisor.posts import Post, Role, Sitting
from docket_supervisor.rolling import Roll
from docket_supervisor.settings import SupervisorSettings
from docket_supervisor.sizing import Sizing
from docket_supervisor.sources import Sources
from docket_supervisor.spool import Spool
from docket_supervisor.stewardship import Stewardship
from docket_supervisor.strays import Strays


def inheritance(settings: SupervisorSettings, estate: Estate | None, run_worker: str) -> Inheritance:
    """What all processes of the service share: made, or as the former program had it."""
    entrance = Entrance(settings.health_host, settings.health_port)
    if estate is not None and estate.entrance is not None:
        entrance.adopt(estate.entrance)
    return Inheritance(
        settings,
        Board(settings.seats, settings.worker.concurrency, estate and estate.board),
        Lifeline(estate and estate.lifeline),
        Notices(estate and estate.notices),
        Spool(settings.seats, estate and estate.spool),
        entrance,
        MetricsFiles(),
        run_worker,
    )


class Handover:
    def __init__(
        self,
        inherited: Inheritance,
        crew: Crew,
        sizing: Sizing,
        sources: Sources,
        stewardship: Stewardship,
        strays: Strays,
        roll: Roll,
    ) -> None:
        self._inherited = inherited
        self._crew = crew
        self._sizing = sizing
        self._sources = sources
        self._stewardship = stewardship
        self._strays = strays
        self._roll = roll

    def half_done(self, phase: Phase) -> str:
        """What must have ended before the service can change hands; `""`: it can, now.

        Everything that is known to this program alone, and would be lost with it, comes to an end before long.
        """
        if phase not in SERVING:
            return "the service has started"
        if self._roll.going:
            return "the reload has ended"
        for post in self._crew.posts:
            if post.role is Role.RELIEF:
                return f"slot {post.slot} is handed on"
            if post.sitting is Sitting.HIRING:
                return "every worker that was asked for has been forked"
            if post.pid and (post.killed or post.sentence is not None):
                return f"{post.title} has left"
        if not self._sources.settled:
            return "the template has done what it was asked for"
        if not self._stewardship.still:
            return "the steward has heard everything"
        return ""

    def estate(self, phase: Phase, started_at: float, reception: Reception | None) -> Estate:
        inherited = self._inherited
        entrance = inherited.entrance.socket
        return Estate(
            layout=layout(inherited.settings),
            board=inherited.board.file,
            lifeline=inherited.lifeline.ends,
            notices=inherited.notices.ends,
            spool=inherited.spool.files,
            entrance=entrance.fileno() if entrance is not None else None,
            reception=reception,
            phase=phase.name,
            started_at=started_at,
            wanted=self._crew.wanted,
            by_hand=self._sizing.by_hand,
            generation=self._sources.current.generation,
            occupants=tuple(_occupant(post) for post in self._crew.posts),
            steward=self._stewardship.bequest,
            template=self._sources.current.bequest,
            dead_workers=tuple(self._strays.dead_workers),
        )

    def go_on(self, former: Estate, phase: Phase, now: float) -> None:
        """Workers of the former program serve until each has been replaced by one of ours, and if that fails, on."""
        for worker in former.dead_workers:
            self._strays.orphaned_by(worker, now)
        self._sources.go_on(former.generation, former.template)
        self._stewardship.go_on(former.steward)
        self._sizing.by_hand = former.by_hand
        self._crew.go_on(former.occupants, former.wanted, self._sources.current, quiet=phase is Phase.QUIET)
        self._roll.ask()


def _occupant(post: Post) -> Occupant:
    return Occupant(
        number=post.number,
        role=post.role.name,
        slot=post.slot,
        generation=post.generation,
        sitting=post.sitting.name,
        pid=post.pid,
        forked_at=post.forked_at,
        kill_at=None if post.kill_at == math.inf else post.kill_at,
    )
