"""Stacks of the processes of the service: asked for, waited for without blocking, and logged when they are there.

Asked for by USR1, which any of its threads may heed; insisted on by USR2 only when none did, for that is safe only in a
process in which nothing runs Python (`docket_runtime.dumping` tells why).
"""

from __future__ import annotations

import logging
import math
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from docket import clock
from docket_supervisor.board import Seat
from docket_supervisor.spool import Spool
from docket_supervisor.vitality import catches, stopped

logger = logging.getLogger("docket.supervisor")

STEADY = 0.05
"""Seconds without anything new after which a dump is complete."""
PATIENCE = 1.0
"""Seconds after which one is insisted on that has not come, and as many more after which it is given up; its process
may be stopped."""
HASTE = 0.3
"""The same where something else waits for it; a little more than a tick, by which the loop watch comes."""
_POLL = 0.01

Taken = Callable[[str], object]


@dataclass
class _Awaited:
    pid: int
    title: str
    asked_at: float
    aloud: bool
    insist_at: float = 0.0
    insisted_at: float = 0.0
    whenever_there: list[Taken] = field(default_factory=list[Taken])
    size: int = 0
    grew_at: float = 0.0


class Dumps:
    """A dump that nobody asked for is taken too: of a process that crashed, or was sent USR1 by somebody else."""

    def __init__(
        self,
        spool: Spool,
        seats: Sequence[Seat],
        title_of: Callable[[int], str],
        writers: Callable[[], Iterable[int]],
    ) -> None:
        """`writers`: the numbers of those that are there, and may write although nobody has asked."""
        self._spool = spool
        self._seats = seats
        self._title_of = title_of
        self._writers = writers
        self._awaited: dict[int, _Awaited] = {}
        self._looked_at = 0.0

    def ask(
        self,
        number: int,
        pid: int,
        title: str,
        whenever_there: Taken | None = None,
        *,
        quietly: bool = False,
        patience: float = PATIENCE,
    ) -> None:
        """What it brings goes to `whenever_there`, and to the log unless everybody asked quietly."""
        now = clock.monotonic()
        awaited = self._awaited.setdefault(number, _Awaited(pid, title, now, not quietly, now + patience))
        awaited.aloud |= not quietly
        awaited.insist_at = min(awaited.insist_at, now + patience)
        if whenever_there is not None:
            awaited.whenever_there.append(whenever_there)
        if number < len(self._seats):
            self._seats[number].stacks_asked()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR1)

    @property
    def pending(self) -> bool:
        """Somebody has been asked, and has neither answered nor been given up."""
        return bool(self._awaited)

    def turn(self, now: float) -> float:
        """Takes what has come; returns when to be called again."""
        if not self._awaited and now < self._looked_at + PATIENCE:
            return math.inf
        self._looked_at = now
        for number in self._writers():
            if number not in self._awaited and self._spool.size(number):
                self._awaited[number] = _Awaited(0, self._title_of(number), now, True)
        for number in list(self._awaited):
            self._look(number, self._awaited[number], now)
        return now + STEADY if self._awaited else math.inf

    def _look(self, number: int, awaited: _Awaited, now: float) -> None:
        if (size := self._spool.size(number)) != awaited.size:
            awaited.size, awaited.grew_at = size, now
        elif size and now - awaited.grew_at >= STEADY:
            self._log(number, awaited)
        elif not size and not awaited.insisted_at and now >= awaited.insist_at:
            awaited.insisted_at = now
            self._insist(number, awaited)
        elif not size and awaited.insisted_at and now >= awaited.insisted_at + PATIENCE:
            del self._awaited[number]
            waited = now - awaited.asked_at
            logger.warning("%s did not write its stacks within %.1fs", awaited.title, waited)

    def _insist(self, number: int, awaited: _Awaited) -> None:
        # Whose loop turns has run Python since, and would have answered if it was still us whom its handler heeds.
        turns = number < len(self._seats) and self._seats[number].ticked_at > awaited.asked_at
        pid = awaited.pid
        if pid and not turns and not stopped(pid) and catches(pid, signal.SIGUSR2):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR2)

    def _log(self, number: int, awaited: _Awaited) -> None:
        self._awaited.pop(number, None)
        text = self._spool.take(number)
        if awaited.aloud:
            logger.warning("stacks of %s:\n%s", awaited.title, text.rstrip())
        for taken in awaited.whenever_there:
            taken(text)

    def died(self, number: int) -> str:
        """What this process has left behind and nobody has read: the stacks of its crash."""
        awaited = self._awaited.pop(number, None)
        text = self._spool.take(number)
        if text:
            logger.warning("stacks of %s, which has died:\n%s", self._title_of(number), text.rstrip())
        for taken in awaited.whenever_there if awaited and text else ():
            taken(text)
        return text

    def own(self, title: str) -> None:
        """Of this process, which has one thread."""
        logger.warning("stacks of %s:\n%s", title, "".join(traceback.format_stack()).rstrip())

    def at_once(self) -> None:
        """Waits for what was asked for, but not long: whoever calls this is about to end everybody."""
        began_at = clock.monotonic()
        give_up_at = began_at + 2 * HASTE
        for awaited in self._awaited.values():
            awaited.insist_at = min(awaited.insist_at, began_at + HASTE)
        while self._awaited and (now := clock.monotonic()) < give_up_at:
            self.turn(now)
            time.sleep(_POLL)
