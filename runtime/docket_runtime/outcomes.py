"""How an execution can end, as data: each is what the settle transition is told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

from docket import clock, payload
from docket.message import Claimed
from docket.payload import Door
from docket.strikelist import Strike

_LONGEST_ERROR = 4000
"""Characters of an error that the record keeps; the whole exception is stored beside it."""

_LONGEST_DELAY = timedelta(days=365_000)
"""About a thousand years: what lies beyond could not be said as a datetime."""


class Outcome(NamedTuple):
    """`verb` and its two operands, as `lua/_settle.lua` reads them."""

    verb: str
    a: str | bytes | int = ""
    b: str | bytes = ""


class Wrapping(NamedTuple):
    """How what a call returned or raised is stored: as its docket does it, and signed as this call's."""

    door: Door
    function: str
    key: str
    nonce: bytes | None

    def value(self, value: object) -> bytes:
        stored = self.door.dump(value)
        payload.refuse_excess(stored, "the results")
        return self.door.sealed_result(self.function, self.key, self.nonce, "value", stored)

    def exception(self, error: BaseException) -> bytes:
        stored = self.door.dump_exception(error)
        return self.door.sealed_result(self.function, self.key, self.nonce, "exception", stored)


def wrapping(door: Door, claimed: Claimed) -> Wrapping:
    return Wrapping(door, claimed.function, claimed.key, claimed.nonce)


RETURNED = Outcome("returned")
"""Claimed but never begun: back to the front of the line."""

INTERRUPTED = Outcome("interrupted")
"""Begun and stopped by us: back to the front of the line; the attempt is not counted."""

COMPLETED_WITH_NONE = Outcome("completed", b"")


def completed(value: Any, wrapping: Wrapping) -> Outcome:
    """A value that cannot be stored fails the execution, without another attempt: its side effects have happened."""
    if value is None:
        return COMPLETED_WITH_NONE
    try:
        return Outcome("completed", wrapping.value(value))
    except BaseException as error:
        problem = f"cannot store the result (a {type(value).__name__}): {payload.describe(error)}"
        return failed(TypeError(problem), wrapping)


def too_long(allowed: timedelta) -> TimeoutError:
    """What a body that ran longer than its task allows has failed with."""
    return TimeoutError(f"it ran longer than {allowed}")


def when_too_late(verb: str, operand: int, allowed: timedelta, wrapping: Wrapping) -> Outcome:
    """Of a body that was ended with its process: as `Board.limited` says it in advance."""
    match verb:
        case "retry":
            return Outcome("retry", operand)
        case "perpetuate":
            return Outcome("perpetuate", max(0, operand - clock.now_us()), b"")
        case _:
            return failed(too_long(allowed), wrapping)


def failed(error: BaseException, wrapping: Wrapping) -> Outcome:
    return Outcome("failed", payload.describe(error)[:_LONGEST_ERROR], wrapping.exception(error))


def microseconds(delay: timedelta) -> int:
    """Within what can be said as a datetime; less than nothing is nothing."""
    return max(0, min(delay, _LONGEST_DELAY) // timedelta(microseconds=1))


def retry(delay: timedelta) -> Outcome:
    """Another attempt, `delay` from now; less than nothing means at once."""
    return Outcome("retry", microseconds(delay))


def perpetuate(delay: timedelta, body: bytes) -> Outcome:
    """The next run of a perpetual task, `delay` from now; an empty body means the same arguments."""
    return Outcome("perpetuate", microseconds(delay), body)


def cancelled(reason: str = "") -> Outcome:
    return Outcome("cancelled", reason)


def struck(strike: Strike) -> Outcome:
    """Cancelled with the rule as its reason, or held until the rule is lifted."""
    return Outcome("held", strike.id) if strike.hold else cancelled(strike.reason[:_LONGEST_ERROR])


def unknown(task: str) -> Outcome:
    return Outcome("unknown", payload.encodable(f"no worker that took it knows the task {task!r}"))


def set_aside(cause: str) -> Outcome:
    return Outcome("dead", payload.encodable(cause[:_LONGEST_ERROR]))
