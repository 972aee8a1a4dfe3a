"""The one place where time is read.

What two machines must agree on (due, lapsed, expired) is decided by Redis's clock inside the scripts. The local clock
only stamps what a user sees, and lets a waiter give up sooner.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from docket.errors import NaiveDatetime

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST, _LAST = (
    (moment.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND for moment in (datetime.min, datetime.max)
)


def now() -> datetime:
    """The wall clock, as an aware datetime in UTC."""
    return datetime.now(UTC)


def now_us() -> int:
    """The wall clock in whole microseconds since 1970."""
    return time.time_ns() // 1000


def monotonic() -> float:
    """Seconds on a clock that only goes forward; shared by all processes of this machine."""
    return time.monotonic()


def spent_beside(thread: int) -> float:
    """Seconds of CPU that all other threads of this process have spent; 0.0 where one cannot be told from another."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return 0.0
    return time.process_time() - time.clock_gettime(time.pthread_getcpuclockid(thread))


def to_us(moment: datetime, name: str = "the moment") -> int:
    """Whole microseconds since 1970, exactly (a float of seconds would round). `name`: what it is called where it was
    given."""
    if not isinstance(moment, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"expected {name} to be a datetime, got {moment!r}")
    if moment.tzinfo is None:
        raise NaiveDatetime(
            f"expected an aware datetime, got the naive {moment!r}: say which time zone, "
            "for example datetime.now(timezone.utc)"
        )
    # West of UTC the last day of 9999 ends in a year that no datetime in UTC can name, and east of it the first day of
    # the year 1 begins in one.
    return min(max((moment - _EPOCH) // _MICROSECOND, _FIRST), _LAST)


def from_us(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def to_ms(duration: timedelta) -> int:
    return round(duration / timedelta(milliseconds=1))


def isoformat(microseconds: int) -> str:
    """The form that state events use, e.g. `2025-01-15T10:30:05.000000Z`."""
    return from_us(microseconds).strftime("%Y-%m-%dT%H:%M:%S.%f") + "Z"
