"""The two ways to get a worker process: from the template, or by forking ourselves."""

from __future__ import annotations

import logging
import math
import os
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Protocol

from docket import clock
from docket.durations import describe
from docket_supervisor.channel import Channel, fork_with_channel
from docket_supervisor.child import Inheritance, be_worker
from docket_supervisor.codes import ExitCode
from docket_supervisor.deaths import Death
from docket_supervisor.forking import UNFORKABLE_PAUSE, Closeable, fork
from docket_supervisor.messages import Forked, ForkWorker, Imported, ImportFailed, Message
from docket_supervisor.silence import Silence
from docket_supervisor.template import run_template

logger = logging.getLogger("docket.supervisor")

FORK_PATIENCE = 5.0
"""Seconds that a template has to answer. One that is stopped or hangs would leave slots empty for ever."""
TEMPLATE_PAUSE = 5.0
"""Seconds before another template is tried when one failed while the service runs."""


class Generations:
    """Numbers the codes that workers run, from 1 upwards."""

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def next(self) -> int:
        self.last += 1
        return self.last

    def give_back(self, number: int) -> None:
        """That code did not come into service; the next one may have its number."""
        if number == self.last:
            self.last -= 1


class Hiring(Protocol):
    """Answers every `hire` by calling `hired(seat, pid)`, at once or later; pid 0 when there can be none now."""

    generation: int
    """Of the code that its workers run."""

    keeps_code: bool
    """It has imported the code once for all; otherwise its workers import whatever is there when they are born."""

    @property
    def imported(self) -> bool:
        """Workers can be had."""
        ...

    @property
    def failure(self) -> str:
        """Why none can be had, if it is known by now."""
        ...

    def start(self) -> None: ...

    def hire(self, seat: int, *, slot: int, quarantine: bool) -> None: ...

    def cancel(self, seat: int) -> None:
        """A request that nobody has heard yet is answered with 0; otherwise it changes nothing."""
        ...

    @property
    def outstanding(self) -> bool:
        """A worker may be running whose pid we have not been told."""
        ...

    def turn(self, now: float) -> float: ...

    def died(self, death: Death) -> bool:
        """True if that was one of its own processes."""
        ...

    def pids(self) -> list[int]: ...

    @property
    def settled(self) -> bool:
        """Nothing that was asked for is on its way."""
        ...

    @property
    def bequest(self) -> tuple[int, int] | None:
        """Its process and its channel, for the program that takes our place; None if it has none."""
        ...

    def adopt(self, bequest: tuple[int, int]) -> None:
        """What was its former program's process is its own."""
        ...

    def dismiss(self) -> None: ...


class DirectHiring:
    """Each worker is forked by the supervisor and imports for itself."""

    outstanding = False
    keeps_code = False
    imported = True
    failure = ""
    settled = True
    bequest = None

    def __init__(
        self,
        inherited: Inheritance,
        closing: Callable[[], Iterable[Closeable]],
        hired: Callable[[int, int], None],
        numbers: Generations,
    ) -> None:
        self._inherited = inherited
        self._closing = closing
        self._hired = hired
        self.generation = numbers.next()

    def start(self) -> None: ...
    def cancel(self, seat: int) -> None: ...
    def adopt(self, bequest: tuple[int, int]) -> None: ...

    def hire(self, seat: int, *, slot: int, quarantine: bool) -> None:
        main = partial(be_worker, self._inherited, seat, slot, self.generation, quarantine=quarantine)
        try:
            pid = fork(main, closing=self._closing())
        except OSError as error:
            logger.warning("could not fork a worker for seat %d: %s", seat, error)
            pid = 0
        self._hired(seat, pid)

    def turn(self, now: float) -> float:
        return math.inf

    def died(self, death: Death) -> bool:
        return False

    def pids(self) -> list[int]:
        return []

    def dismiss(self) -> None: ...


class TemplateHiring:
    """Workers come from the template; requests wait until it has imported. A template that dies is replaced."""

    keeps_code = True

    def __init__(
        self,
        inherited: Inheritance,
        closing: Callable[[], Iterable[Closeable]],
        hired: Callable[[int, int], None],
        watched: Callable[[Channel, Callable[[Message], None]], None],
        import_failed: Callable[[ImportFailed], None],
        numbers: Generations,
    ) -> None:
        self._inherited = inherited
        self._closing = closing
        self._hired = hired
        self._watched = watched
        self._import_failed = import_failed
        self._waiting: dict[int, ForkWorker] = {}
        self._asked: set[int] = set()
        self._heard_at = 0.0
        self._silence = Silence()
        self._numbers = numbers
        self._pid = 0
        self._retry_at = math.inf
        self._dismissed = False
        self._channel: Channel | None = None
        self._imported_before = False
        self._counted_on = False
        """It has imported once. Until then, whoever waits for that has a limit of its own: the start, or a roll."""
        self.imported = False
        self.failure = ""
        self.generation = numbers.next()

    def start(self) -> None:
        if self._imported_before:
            # What it imports now need not be what the last one did.
            self.generation = self._numbers.next()
            self._imported_before = False
        main = partial(run_template, self._inherited, generation=self.generation)
        try:
            self._pid, ours = fork_with_channel(main, closing=self._closing())
        except OSError as error:
            logger.warning("could not fork a template: %s", error)
            self.failure = f"could not fork a template: {error}"
            self._retry_at = clock.monotonic() + UNFORKABLE_PAUSE
            return
        self._channel = ours
        self._heard_at = clock.monotonic()
        self.failure = ""
        self._retry_at = math.inf
        self._watched(ours, self._told)

    @property
    def outstanding(self) -> bool:
        return bool(self._asked)

    @property
    def settled(self) -> bool:
        if self._waiting or self._asked or (self._pid and not self.imported):
            return False
        return self._channel is None or self._channel.still

    @property
    def bequest(self) -> tuple[int, int] | None:
        return (self._pid, self._channel.fileno()) if self._channel is not None and self._pid else None

    def adopt(self, bequest: tuple[int, int]) -> None:
        self._pid, descriptor = bequest
        self._channel = Channel.at(descriptor)
        self.imported = self._imported_before = self._counted_on = True
        self._watched(self._channel, self._told)

    def hire(self, seat: int, *, slot: int, quarantine: bool) -> None:
        self._waiting[seat] = ForkWorker(seat, slot, quarantine)
        self._ask()

    def cancel(self, seat: int) -> None:
        if self._waiting.pop(seat, None) is not None:
            self._hired(seat, 0)

    def turn(self, now: float) -> float:
        if now >= self._retry_at:
            self.start()
        self._mind_its_silence(now)
        return self._retry_at

    def _mind_its_silence(self, now: float) -> None:
        boot_timeout = self._inherited.settings.boot_timeout
        if self._asked:
            patience, late = FORK_PATIENCE, "does not fork what it was asked for"
        elif self._imports_again:
            patience = boot_timeout.total_seconds()
            late = f"did not finish importing within {describe(boot_timeout)}"
        else:
            return
        if self._silence.lasts(now, self._heard_at) > patience:
            logger.warning("template %d %s; killing it", self._pid, late)
            self._heard_at = now
            self._kill()

    @property
    def _imports_again(self) -> bool:
        """In the place of one that died; slots that become empty stay so until it has imported."""
        if self._inherited.settings.watch:
            # Who develops may need a while, and the next change brings the next template.
            return False
        return bool(self._pid) and self._counted_on and not (self.imported or self._dismissed)

    def died(self, death: Death) -> bool:
        if death.pid != self._pid:
            return False
        for message in self._channel.receive() if self._channel else ():
            self._told(message)
        self._pid = 0
        self._channel = None
        # Those asked for last may or may not have been forked: nobody can say, so they are asked for again. One that
        # was forked all the same waits in vain to be seated, and leaves.
        for seat in self._asked:
            self._hired(seat, 0)
        self._asked.clear()
        came_up, self.imported = self.imported, False
        imports = death.code == ExitCode.IMPORT
        self.failure = "the task modules failed to import" if imports else f"template {death.cause}"
        if not self._dismissed:
            logger.warning("template %d %s", death.pid, death.cause)
            # Who develops is told once; the next change brings the next template.
            waits = self._inherited.settings.watch and imports
            pause = 0.0 if came_up else math.inf if waits else TEMPLATE_PAUSE
            self._retry_at = clock.monotonic() + pause
        return True

    def pids(self) -> list[int]:
        return [self._pid] if self._pid else []

    def dismiss(self) -> None:
        """It leaves by itself when the channel ends, unless it is still importing."""
        self._dismissed = True
        unanswered, self._waiting = list(self._waiting), {}
        for seat in unanswered:
            self._hired(seat, 0)
        self._retry_at = math.inf
        self._kill()

    def _kill(self) -> None:
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def _ask(self) -> None:
        if self._channel is not None and self.imported:
            for seat, wanted in self._waiting.items():
                self._channel.send(wanted)
                if not self._asked:
                    self._heard_at = clock.monotonic()
                self._asked.add(seat)
            self._waiting.clear()

    def _told(self, message: Message) -> None:
        match message:
            case Imported():
                self.imported = self._imported_before = self._counted_on = True
                logger.info(
                    "template %d imported the tasks of %d collections", self._pid, message.collections
                )
                self._ask()
            case ImportFailed():
                self._import_failed(message)
            case Forked():
                self._asked.discard(message.seat)
                self._heard_at = clock.monotonic()
                self._hired(message.seat, message.pid)
            case _:
                pass
