"""The life of the whole service as a table: phase × event → next phase and what to do. Pure; nothing is forked here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from docket_supervisor.codes import ExitCode


class Phase(Enum):
    """Where the service stands; only one way leads on from each of the last three."""

    STARTING = auto()
    """No worker has been ready yet."""
    RUNNING = auto()
    DRAINING = auto()
    HURRYING = auto()
    """Draining still, with a short deadline."""
    STOPPING = auto()
    """Workers were told to leave at once."""
    KILLING = auto()
    """The deadline passed; workers that were alive have been sent SIGKILL."""
    CLOSING = auto()
    """No worker is left; the steward finishes what it was ordered to hand over."""
    GONE = auto()


class Event(Enum):
    READY = auto()
    """A worker can claim for the first time."""
    TERM = auto()
    INT = auto()
    MISCONFIGURED = auto()
    IMPORT_FAILED = auto()
    BOOT_TIMED_OUT = auto()
    NO_REDIS = auto()
    GAVE_UP = auto()
    """The last slot has used up its restart budget."""
    DEADLINE = auto()
    """Grace is over."""
    EMPTY = auto()
    """No worker process is left, of any kind."""
    CLOSED = auto()
    """Every hand-over is acknowledged, or the time reserved for that is over."""


class Action(Enum):
    ANNOUNCE = auto()
    DRAIN = auto()
    HURRY = auto()
    STOP = auto()
    KILL = auto()
    CLOSE = auto()


@dataclass(frozen=True)
class Transition:
    phase: Phase
    actions: tuple[Action, ...] = ()
    code: ExitCode | None = None
    """The exit code from here on, unless one was decided earlier."""


_P, _E, _A = Phase, Event, Action

_ALIVE = (_P.STARTING, _P.RUNNING)
_LEAVING = (_P.DRAINING, _P.HURRYING, _P.STOPPING, _P.KILLING)

# A service that never was of use does not drain: none of its workers can hold work worth waiting for.
_FAILED_START = {
    _E.MISCONFIGURED: ExitCode.USAGE,
    _E.IMPORT_FAILED: ExitCode.IMPORT,
    _E.BOOT_TIMED_OUT: ExitCode.NOT_READY,
    _E.NO_REDIS: ExitCode.NO_REDIS,
}

TABLE: dict[tuple[Phase, Event], Transition] = {
    (_P.STARTING, _E.READY): Transition(_P.RUNNING, (_A.ANNOUNCE,)),
    **{
        (_P.STARTING, event): Transition(_P.STOPPING, (_A.STOP,), code)
        for event, code in _FAILED_START.items()
    },
    (_P.RUNNING, _E.MISCONFIGURED): Transition(_P.STOPPING, (_A.STOP,), ExitCode.USAGE),
    **{(phase, _E.GAVE_UP): Transition(_P.STOPPING, (_A.STOP,), ExitCode.GAVE_UP) for phase in _ALIVE},
    # The first signal drains, the second shortens, the third ends it; only the third one's name matters.
    **{
        (phase, event): Transition(_P.DRAINING, (_A.DRAIN,))
        for phase in _ALIVE
        for event in (_E.TERM, _E.INT)
    },
    **{(_P.DRAINING, event): Transition(_P.HURRYING, (_A.HURRY,)) for event in (_E.TERM, _E.INT)},
    (_P.HURRYING, _E.TERM): Transition(_P.STOPPING, (_A.STOP,), ExitCode.STOPPED_BY_TERM),
    (_P.HURRYING, _E.INT): Transition(_P.STOPPING, (_A.STOP,), ExitCode.STOPPED_BY_INT),
    **{
        (phase, _E.DEADLINE): Transition(_P.KILLING, (_A.KILL,), ExitCode.HANDED_BACK)
        for phase in (_P.DRAINING, _P.HURRYING, _P.STOPPING)
    },
    **{(phase, _E.EMPTY): Transition(_P.CLOSING, (_A.CLOSE,)) for phase in _LEAVING},
    (_P.CLOSING, _E.CLOSED): Transition(_P.GONE),
}


def after(phase: Phase, event: Event) -> Transition:
    """What follows; an event that a phase does not know changes nothing."""
    return TABLE.get((phase, event), Transition(phase))
