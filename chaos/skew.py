"""Wall clocks that disagree: in the drill for that, each worker process believes that it is another time.

Only the tasks of `chaos` come here, so no variable can put the clocks of a real service wrong.
"""

from __future__ import annotations

import os
import random
import time
from datetime import datetime, timedelta, tzinfo
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

from docket import clock

VARIABLE = "DOCKET_CHAOS_SKEW"
"""Seconds that a clock may be off, at most, in either direction."""

STEP = 3.0
"""Seconds after which a clock is set to something else, as a time server would do it."""


def register() -> None:
    """The worker processes that are forked from this one have clocks of their own, if the drill says so."""
    most = float(os.environ.get(VARIABLE, 0))
    if most:
        os.register_at_fork(after_in_child=partial(put_wrong, most))


def put_wrong(most: float) -> None:
    """This process's wall clock is off; its monotonic clock, with which witnesses tell the order, is not."""
    pid = os.getpid()

    def offset() -> float:
        return random.Random(f"{pid} {time.time() // STEP}").uniform(-most, most)

    class Skewed(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # pyright: ignore[reportIncompatibleMethodOverride]
            return datetime.now(tz) + timedelta(seconds=offset())

    faked = cast(Any, clock)
    faked.datetime = Skewed
    faked.time = SimpleNamespace(
        time_ns=lambda: time.time_ns() + round(offset() * 1e9), monotonic=time.monotonic
    )
