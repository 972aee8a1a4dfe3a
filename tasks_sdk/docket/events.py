"""What happens to an execution, told to whoever follows it."""

from __future__ import annotations

import itertools
import json
import os
from typing import Literal, Protocol, TypeAlias, TypedDict

from docket.errors import ResultUnavailable
from docket.states import ExecutionState
from docket.store import scripts
from docket.store.keys import Keys
from docket.store.requests import SUBSCRIBED, Attempt, Commands, Emit, NextEvent, Stream


class StateEvent(TypedDict):
    """A change of state; moments in ISO format, in UTC."""

    type: Literal["state"]
    key: str
    state: ExecutionState
    when: str
    worker: str | None
    started_at: str | None
    completed_at: str | None
    error: str | None


class ProgressEvent(TypedDict):
    """A report of progress; `updated_at` is None before the first one."""

    type: Literal["progress"]
    key: str
    current: int
    total: int
    message: str | None
    updated_at: str | None


ExecutionEvent: TypeAlias = StateEvent | ProgressEvent

_LOOK_AGAIN = 60.0
"""Seconds after which a follower looks even without an event: the record may have vanished without one."""
_TRY_AGAIN = 1.0
_NEVER = b""
"""No mark is like this: everything that comes is older than the next look."""


class Ready(Protocol):
    """An event of asyncio or of threading."""

    def set(self) -> None: ...


def parse(text: bytes) -> ExecutionEvent:
    event = json.loads(text.decode(errors="replace"))
    if event["type"] == "state":
        event["state"] = ExecutionState(event["state"])
    return event


def follow(keys: Keys, key: str, ready: Ready | None) -> Stream[None]:
    """Emits the state as it is, then the progress as it is, then every change, until the execution has ended.

    Each look leaves a mark among the events, in the same moment: what comes before the mark was seen by the look, what
    comes after it is news. So nothing is lost and nothing is told twice. After a reconnection or a long silence, when
    events may have been missed, it looks again and tells what differs.
    """
    yield Commands((("PING",),))  # a Redis that is not there is said at once; later it is waited for
    observer = os.urandom(8).hex()
    marks = keys.marks(observer)
    channels = (keys.state_channel(key), keys.progress_channel(key), marks)
    numbers = itertools.count(1)
    awaited: bytes | None = _NEVER
    behind = False
    shown = [b"", b""]
    while True:
        event = yield NextEvent(channels, _TRY_AGAIN if behind else _LOOK_AGAIN)
        if event is SUBSCRIBED or event is None:
            # A long silence may be that of a connection which brings nothing any more, without being broken.
            behind, awaited = True, _NEVER if event is SUBSCRIBED else awaited
            mark = str(next(numbers))
            reply = yield Attempt(scripts.observe(keys, key, observer, mark))
            seen = None if reply is None else _seen(key, reply)
            if seen is None:
                continue
            behind, awaited = False, mark.encode()
            if ready is not None:
                ready.set()
            for place, text in enumerate(seen):
                if text != shown[place]:
                    shown[place] = text
                    if (yield from _tell(text)):
                        return
        elif event[0] == marks:
            awaited = None if event[1] == awaited else awaited
        elif awaited is None:
            shown[event[0] == channels[1]] = event[1]
            if (yield from _tell(event[1])):
                return


def _seen(key: str, reply: list[bytes]) -> list[bytes]:
    if reply[0] == b"gone":
        raise ResultUnavailable(f"there is no execution {key!r}: it has expired, or never existed")
    if reply[0] == b"unkept":
        raise ResultUnavailable(f"no events of {key!r} will come: it was scheduled with execution_ttl=0")
    return reply[1:]


def _tell(text: bytes) -> Stream[bool]:
    """Returns whether it was the last one."""
    event = parse(text)
    yield Emit(event)
    return event["type"] == "state" and event["state"].ended
