"""A rolling restart as a table: stage × happening → next stage and what to do. Pure; nothing is forked here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Stage(Enum):
    IDLE = auto()
    """One code is in service, and every slot runs it."""
    IMPORTING = auto()
    """A new template imports; all slots run the old code."""
    BOOTING = auto()
    """The canary, the first worker of the new code, is on its way; it stands for no slot."""
    WATCHING = auto()
    """The canary is ready and works; the worker that it is to relieve works still."""
    ROLLING = auto()
    """The new code is in service; slots are handed on one after another."""
    UNDOING = auto()
    """The old code is in service again; slots that had been handed on are handed back."""


class Happening(Enum):
    ASKED = auto()
    IMPORTED = auto()
    READY = auto()
    """The canary is."""
    PASSED = auto()
    """The canary has lived for as long as it is watched."""
    FAILED = auto()
    """The new code did not import, or the canary died or was not ready in time."""
    HOPELESS = auto()
    """A slot cannot be handed on, however often it is tried."""
    COMPLETE = auto()
    """Every slot runs the code in service."""
    SUPERSEDED = auto()
    """The code on trial is not even the newest any more."""
    LEAVING = auto()
    """The service is told to stop."""


class Step(Enum):
    IMPORT = auto()
    TRY = auto()
    """Send for the canary."""
    WATCH = auto()
    ADOPT = auto()
    """From now on everybody is hired from the new template; the canary takes its slot over."""
    RESTORE = auto()
    """From now on everybody is hired from the old template again."""
    DISCARD = auto()
    """The template that is not in service leaves, with what was hired from it and stands for no slot."""
    SUCCEED = auto()
    """Tell that the new code is in service."""
    UNDONE = auto()
    """Tell that the old one still is, and why."""


@dataclass(frozen=True)
class Move:
    stage: Stage
    steps: tuple[Step, ...] = ()


_S, _H, _D = Stage, Happening, Step

_TRIAL = (_S.IMPORTING, _S.BOOTING, _S.WATCHING)

TABLE: dict[tuple[Stage, Happening], Move] = {
    (_S.IDLE, _H.ASKED): Move(_S.IMPORTING, (_D.IMPORT,)),
    (_S.IMPORTING, _H.IMPORTED): Move(_S.BOOTING, (_D.TRY,)),
    (_S.BOOTING, _H.READY): Move(_S.WATCHING, (_D.WATCH,)),
    (_S.WATCHING, _H.PASSED): Move(_S.ROLLING, (_D.ADOPT,)),
    # On trial, nothing has changed for the slots: forgetting the new code is all that there is to undo.
    **{(stage, _H.FAILED): Move(_S.IDLE, (_D.DISCARD, _D.UNDONE)) for stage in _TRIAL},
    **{(stage, _H.SUPERSEDED): Move(_S.IDLE, (_D.DISCARD,)) for stage in _TRIAL},
    (_S.ROLLING, _H.COMPLETE): Move(_S.IDLE, (_D.DISCARD, _D.SUCCEED)),
    (_S.ROLLING, _H.HOPELESS): Move(_S.UNDOING, (_D.RESTORE,)),
    (_S.UNDOING, _H.COMPLETE): Move(_S.IDLE, (_D.DISCARD, _D.UNDONE)),
    **{
        (stage, _H.LEAVING): Move(_S.IDLE, (_D.DISCARD,))
        for stage in (*_TRIAL, _S.ROLLING, _S.UNDOING)
    },
}  # fmt: skip


def after(stage: Stage, happening: Happening) -> Move:
    """What follows; a happening that a stage does not know changes nothing."""
    return TABLE.get((stage, happening), Move(stage))
