"""USR2: another program takes the place of this one in the same process, and goes on with its children.

The new program is asked first, in a process of its own, whether it starts with these options and understands our
memory: after the `execve` there is no way back. Then it waits for a moment in which nothing is half-done.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from docket_supervisor.anonymous import anonymous_file
from docket_supervisor.deaths import Death
from docket_supervisor.estate import VARIABLE, Estate, keep, write
from docket_supervisor.forking import Closeable, fork, signals_blocked
from docket_supervisor.layout import layout
from docket_supervisor.settings import SupervisorSettings

logger = logging.getLogger("docket.supervisor")

QUESTION = "DOCKET_LAYOUT_ASKED"
"""Names a descriptor: who is started with it writes its layout there, and does nothing else."""
_PATIENCE = 30.0
_LOOK_AGAIN = 0.05


def answered(settings: SupervisorSettings) -> bool:
    """True if we were only asked what we could go on with; that has been said then."""
    descriptor = os.environ.pop(QUESTION, "")
    if descriptor:
        os.write(int(descriptor), layout(settings).encode())
    return bool(descriptor)


class Succession:
    def __init__(
        self,
        settings: SupervisorSettings,
        *,
        closing: Callable[[], Iterable[Closeable]],
        settled: Callable[[], str],
        unheard: Callable[[], bool],
        estate: Callable[[], Estate],
    ) -> None:
        """`settled` says what is half-done, `""` when nothing is; `unheard`, whether something has come that this
        program has yet to act upon, and the next would not find. Only when neither holds is `estate` called."""
        self._layout = layout(settings)
        self._closing = closing
        self._settled = settled
        self._unheard = unheard
        self._estate = estate
        self._wanted = self._agreed = False
        self._waits_for = ""
        self._pid = 0
        self._answer = -1
        self._give_up_at = math.inf

    @property
    def pids(self) -> tuple[int, ...]:
        return (self._pid,) if self._pid else ()

    def ask(self) -> None:
        """Begins at the next turn."""
        self._wanted = True

    def leave(self) -> None:
        """The service is told to stop: this program sees to that."""
        self._wanted = self._agreed = False
        self._end()

    def turn(self, now: float) -> float:
        """Goes on as far as possible, maybe never to return; else returns when to be called again."""
        if self._agreed:
            return self._go(now)
        if self._wanted and not self._pid:
            self._question(now)
        if now >= self._give_up_at:
            self._give_up_at = math.inf
            self._end()
        return self._give_up_at

    def died(self, death: Death) -> bool:
        """True if that was the one who was asked."""
        if not self._pid or death.pid != self._pid:
            return False
        answer = os.pread(self._answer, 1000, 0).decode(errors="replace")
        os.close(self._answer)
        self._pid, self._give_up_at = 0, math.inf
        asked, self._wanted = self._wanted, False
        if not asked:
            return True
        if answer == self._layout:
            self._agreed = True
        elif answer:
            logger.error(
                "not re-executing: the new program cannot go on with what this one has in memory; restart instead"
            )
        else:
            logger.error("not re-executing: the new program %s instead of starting", death.cause)
        return True

    def _question(self, now: float) -> None:
        if not sys.executable:
            self._wanted = False
            logger.error("not re-executing: it is not known what program this is")
            return
        logger.info("re-executing: asking the new program whether it can go on with what is here")
        try:
            self._answer = anonymous_file("docket layout")
        except OSError as error:
            self._cannot_ask(error)
            return
        try:
            self._pid = fork(partial(_start_anew, {QUESTION: self._answer}), closing=self._closing())
        except OSError as error:
            os.close(self._answer)
            self._cannot_ask(error)
            return
        self._give_up_at = now + _PATIENCE

    def _cannot_ask(self, error: OSError) -> None:
        self._wanted = False
        logger.error("not re-executing: could not fork: %s", error)

    def _end(self) -> None:
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def _go(self, now: float) -> float:
        what = self._settled()
        if what:
            if what != self._waits_for:
                logger.info("re-executing as soon as %s", what)
            self._waits_for = what
            return now + _LOOK_AGAIN
        with signals_blocked():
            # A signal that came before is no longer the kernel's to keep, and would be lost with this program.
            if not self._unheard():
                self._agreed, self._waits_for = False, ""
                self._replace()
        return now

    def _replace(self) -> None:
        """Does not return unless it fails. Signals that come meanwhile wait until the new program listens."""
        estate = self._estate()
        try:
            will = write(estate)
        except OSError as error:
            _fail(error)
            return
        logger.info("re-executing, with %d processes", sum(bool(each.pid) for each in estate.occupants))
        try:
            keep(estate, will, kept=True)
            sys.stdout.flush()
            sys.stderr.flush()
            _start_anew({VARIABLE: will})
        except OSError as error:
            keep(estate, kept=False)
            os.close(will)
            _fail(error)


def _fail(error: OSError) -> None:
    logger.error("could not re-execute, this program goes on: %s", error)


def _start_anew(variables: dict[str, int]) -> int:
    """The program as it was started, in this process; whatever it is by now. The descriptors named are kept open."""
    for descriptor in variables.values():
        os.set_inheritable(descriptor, True)
    told = {name: str(descriptor) for name, descriptor in variables.items()}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **told})


def listen_again() -> None:
    """Signals that have waited since the former program let go come now; call when they are heard."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
