"""The life of the whole service as a table: phase × event → next phase and what to do. Pure; nothing is forked here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from docket_supervisor.codes import ExitCode


class Phase(Enum):
    """Where the service stands. Only the end of quiet leads back; only one way leads on from each of the last three."""

    STARTING = auto()
    """No worker has been ready yet."""
    STARTING_QUIET = auto()
    """The same, and those that become ready are to claim nothing."""
    RUNNING = auto()
    QUIET = auto()
    """Nothing is claimed; what runs goes on."""
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
    QUIT = auto()
    TSTP = auto()
    CONT = auto()
    TTIN = auto()
    TTOU = auto()
    USR1 = auto()
    HUP = auto()
    USR2 = auto()
    SCALE = auto()
    """Somebody names the number of processes."""
    MISCONFIGURED = auto()
    """Nobody can serve with these settings."""
    UNFIT = auto()
    """A worker that was about to begin found that it cannot with these settings. Those who serve already can; so what
    it was refused for is being changed, and may be changed back."""
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
    QUIET = auto()
    RESUME = auto()
    GROW = auto()
    SHRINK = auto()
    RELOAD = auto()
    REEXEC = auto()
    DUMP = auto()
    """Stacks of everybody, and a line on how the service stands."""
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

ALIVE = (_P.STARTING, _P.STARTING_QUIET, _P.RUNNING, _P.QUIET)
STARTING = (_P.STARTING, _P.STARTING_QUIET)
SERVING = (_P.RUNNING, _P.QUIET)
_LEAVING = (_P.DRAINING, _P.HURRYING, _P.STOPPING, _P.KILLING)

# A service that never was of use does not drain: none of its workers can hold work worth waiting for.
_FAILED_START = {
    _E.MISCONFIGURED: ExitCode.USAGE,
    _E.UNFIT: ExitCode.USAGE,
    _E.IMPORT_FAILED: ExitCode.IMPORT,
    _E.BOOT_TIMED_OUT: ExitCode.NOT_READY,
    _E.NO_REDIS: ExitCode.NO_REDIS,
}

TABLE: dict[tuple[Phase, Event], Transition] = {
    (_P.STARTING, _E.READY): Transition(_P.RUNNING, (_A.ANNOUNCE,)),
    (_P.STARTING_QUIET, _E.READY): Transition(_P.QUIET, (_A.ANNOUNCE,)),
    **{
        (phase, event): Transition(_P.STOPPING, (_A.STOP,), code)
        for phase in STARTING
        for event, code in _FAILED_START.items()
    },
    **{(phase, _E.MISCONFIGURED): Transition(_P.STOPPING, (_A.STOP,), ExitCode.USAGE) for phase in SERVING},
    **{(phase, _E.GAVE_UP): Transition(_P.STOPPING, (_A.STOP,), ExitCode.GAVE_UP) for phase in ALIVE},
    # Quiet and its end are harmless where they are in effect already.
    (_P.STARTING, _E.TSTP): Transition(_P.STARTING_QUIET, (_A.QUIET,)),
    (_P.STARTING, _E.CONT): Transition(_P.STARTING),
    (_P.STARTING_QUIET, _E.TSTP): Transition(_P.STARTING_QUIET),
    (_P.STARTING_QUIET, _E.CONT): Transition(_P.STARTING, (_A.RESUME,)),
    (_P.RUNNING, _E.TSTP): Transition(_P.QUIET, (_A.QUIET,)),
    (_P.RUNNING, _E.CONT): Transition(_P.RUNNING),
    (_P.QUIET, _E.TSTP): Transition(_P.QUIET),
    (_P.QUIET, _E.CONT): Transition(_P.RUNNING, (_A.RESUME,)),
    **{(phase, _E.TTIN): Transition(phase, (_A.GROW,)) for phase in ALIVE},
    **{(phase, _E.TTOU): Transition(phase, (_A.SHRINK,)) for phase in ALIVE},
    **{(phase, _E.SCALE): Transition(phase) for phase in ALIVE},
    **{(phase, _E.USR2): Transition(phase, (_A.REEXEC,)) for phase in ALIVE},
    **{(phase, _E.HUP): Transition(phase, (_A.RELOAD,)) for phase in ALIVE},
    **{(phase, _E.USR1): Transition(phase, (_A.DUMP,)) for phase in (*ALIVE, *_LEAVING)},
    # The first signal drains, the second shortens, the third ends it; only the third one's name matters.
    **{
        (phase, event): Transition(_P.DRAINING, (_A.DRAIN,)) for phase in ALIVE for event in (_E.TERM, _E.INT)
    },
    **{(_P.DRAINING, event): Transition(_P.HURRYING, (_A.HURRY,)) for event in (_E.TERM, _E.INT)},
    (_P.HURRYING, _E.TERM): Transition(_P.STOPPING, (_A.STOP,), ExitCode.STOPPED_BY_TERM),
    (_P.HURRYING, _E.INT): Transition(_P.STOPPING, (_A.STOP,), ExitCode.STOPPED_BY_INT),
    # Stacks before anybody is told to stop: they are to show what was running.
    **{
        (phase, _E.QUIT): Transition(_P.STOPPING, (_A.DUMP, _A.STOP), ExitCode.STOPPED_BY_QUIT)
        for phase in (*ALIVE, _P.DRAINING, _P.HURRYING)
    },
    **{
        (phase, _E.DEADLINE): Transition(_P.KILLING, (_A.KILL,), ExitCode.HANDED_BACK)
        for phase in (_P.DRAINING, _P.HURRYING, _P.STOPPING)
    },
    **{(phase, _E.EMPTY): Transition(_P.CLOSING, (_A.CLOSE,)) for phase in _LEAVING},
    (_P.CLOSING, _E.CLOSED): Transition(_P.GONE),
}


def knows(phase: Phase, event: Event) -> bool:
    """Whether asking for this makes sense now; if not, who asks is refused."""
    return (phase, event) in TABLE


def after(phase: Phase, event: Event) -> Transition:
    """What follows; an event that a phase does not know changes nothing."""
    return TABLE.get((phase, event), Transition(phase))
