"""Time control for tests: what lies in the future comes nearer, without anybody waiting."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Any, overload

from docket.core import Core
from docket.store import scripts
from docket.store.keys import Keys
from docket.store.requests import Operation

if TYPE_CHECKING:
    from docket import sync
    from docket.docket import Docket


@overload
def advance(docket: Docket, by: timedelta) -> Coroutine[Any, Any, int]: ...
@overload
def advance(docket: sync.Docket, by: timedelta) -> int: ...
def advance(docket: Docket | sync.Docket, by: timedelta) -> Any:
    """Everything scheduled for later is due `by` earlier, as if that time had passed; what is due then, a worker runs.

    Returns how many executions were moved (to be awaited, unless the docket is a blocking one). Clocks are left alone:
    a task that asks for the time is told the real one, and nothing expires earlier. ValueError if `by` is negative.
    """
    return docket.store.perform(_advance(docket.core, by))


def _advance(core: Core[Any], by: timedelta) -> Operation[int]:
    if by < timedelta(0):
        raise ValueError(f"expected by to be zero or more, got {by}: time only goes forward")
    return sum((yield from core.everywhere(lambda part: _advance_in(part.keys, by))))


def _advance_in(keys: Keys, by: timedelta) -> Operation[int]:
    moved = yield scripts.advance(keys, by // timedelta(microseconds=1))
    return int(moved)
