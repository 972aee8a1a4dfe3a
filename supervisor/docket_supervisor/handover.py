"""The service as it stands is put into an estate, and taken out of it again by the next program."""

from __future__ import annotations

import math

from docket_supervisor.child import Inheritance
from docket_supervisor.crew import Crew
from docket_supervisor.estate import Estate, Occupant
from docket_supervisor.layout import layout
from docket_supervisor.phases import SERVING, Phase
from docket_supervisor.posts import Post, Role, Sitting
from docket_supervisor.rolling import Roll
from docket_supervisor.sources import Sources
from docket_supervisor.stewardship import Stewardship
from docket_supervisor.strays import Strays


def half_done(phase: Phase, crew: Crew, sources: Sources, stewardship: Stewardship, roll: Roll) -> str:
    """What must have ended before the service can change hands; `""`: it can, now.

    Everything that is known to this program alone, and would be lost with it, comes to an end by itself before long.
    """
    if phase not in SERVING:
        return "the service has started"
    if roll.going:
        return "the reload has ended"
    for post in crew.posts:
        if post.role is Role.RELIEF:
            return f"slot {post.slot} is handed on"
        if post.sitting is Sitting.HIRING:
            return "every worker that was asked for has been forked"
        if post.pid and (post.killed or post.sentence is not None):
            return f"{post.title} has left"
    if not sources.settled:
        return "the template has done what it was asked for"
    if not stewardship.still:
        return "the steward has heard everything"
    return ""


def estate_of(
    inherited: Inheritance,
    phase: Phase,
    started_at: float,
    crew: Crew,
    sources: Sources,
    stewardship: Stewardship,
    strays: Strays,
) -> Estate:
    entrance = inherited.entrance.socket
    return Estate(
        layout=layout(inherited.settings),
        board=inherited.board.file,
        lifeline=inherited.lifeline.ends,
        notices=inherited.notices.ends,
        spool=inherited.spool.files,
        entrance=entrance.fileno() if entrance is not None else None,
        phase=phase.name,
        started_at=started_at,
        wanted=crew.wanted,
        generation=sources.current.generation,
        occupants=tuple(_occupant(post) for post in crew.posts),
        steward=stewardship.bequest,
        template=sources.current.bequest,
        dead_workers=tuple(strays.dead_workers),
    )


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
