"""The mischief that a seed decides: which signal, to which process, and when the next one follows."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable

from chaos.incidents import ALL, Incidents
from chaos.service import Service
from docket import clock

PAUSES = (0.5, 4.0)
"""Seconds between two deeds."""
LONGEST_FREEZE = 12.0
ROLLED_BY = 20.0
"""Seconds after which workers that were told to be replaced have been."""


class Mischief:
    """Does one thing after another, and writes each down before it is done."""

    def __init__(self, service: Service, incidents: Incidents, seed: int, lease: float) -> None:
        self._service, self._incidents = service, incidents
        self._dice = random.Random(seed)
        self._lease = lease
        self._frozen: dict[int, float] = {}
        self._quiet_until = 0.0
        self._next_at = clock.monotonic()
        self.deaths = 0
        """Processes that may have died by it with runs under way."""
        self._deeds: dict[Callable[[], None], float] = {
            self._kill: 6,
            self._freeze: 3,
            self._terminate: 2,
            self._kill_quarantine: 1,
            self._kill_steward: 1,
            self._kill_template: 0.5,
            self._grow: 1,
            self._shrink: 1,
            self._quiet: 1,
            self._roll: 0.7,
        }

    def turn(self) -> None:
        """What is due now."""
        now = clock.monotonic()
        self._thaw(now)
        if self._quiet_until and now >= self._quiet_until:
            self._quiet_until = 0.0
            self._service.send(self._service.pid, signal.SIGCONT)
        if now >= self._next_at:
            deeds = list(self._deeds)
            (deed,) = self._dice.choices(deeds, [self._deeds[each] for each in deeds])
            deed()
            self._next_at = now + self._dice.uniform(*PAUSES)

    def end(self) -> None:
        """Nobody is frozen or quiet any more."""
        self._thaw(float("inf"))
        self._service.send(self._service.pid, signal.SIGCONT)

    def _one(self, kind: str) -> int | None:
        pids = [pid for pid in self._service.pids(kind) if pid not in self._frozen]
        return self._dice.choice(pids) if pids else None

    def _hit(self, kind: str, what: str, number: signal.Signals) -> None:
        pid = self._one(kind)
        if pid is not None:
            self._incidents.happened(what, pid, kind)
            self.deaths += kind in ("worker", "quarantine")
            self._service.send(pid, number)

    def _kill(self) -> None:
        self._hit("worker", "kill", signal.SIGKILL)

    def _kill_quarantine(self) -> None:
        self._hit("quarantine", "kill", signal.SIGKILL)

    def _kill_steward(self) -> None:
        self._hit("steward", "kill", signal.SIGKILL)

    def _kill_template(self) -> None:
        self._hit("template", "kill", signal.SIGKILL)

    def _terminate(self) -> None:
        self._hit("worker", "terminate", signal.SIGTERM)

    def _freeze(self) -> None:
        """Now and then for longer than a lease, so that what it runs is given to somebody else."""
        pid = self._one("worker")
        if pid is not None:
            until = clock.monotonic() + self._dice.uniform(0.1, LONGEST_FREEZE)
            self._frozen[pid] = until
            # What the frozen one is told to do meanwhile, and what it does before it knows, comes of this too.
            self._incidents.happened("freeze", pid, until=until + self._lease)
            self.deaths += 1
            self._service.send(pid, signal.SIGSTOP)

    def _thaw(self, now: float) -> None:
        for pid in [pid for pid, until in self._frozen.items() if now >= until]:
            del self._frozen[pid]
            self._service.send(pid, signal.SIGCONT)

    def _tell(self, what: str, number: signal.Signals, lasting: float = 0.0) -> None:
        self._incidents.happened(what, ALL, number.name, until=clock.monotonic() + lasting)
        self._service.send(self._service.pid, number)

    def _grow(self) -> None:
        self._tell("grow", signal.SIGTTIN)

    def _shrink(self) -> None:
        self.deaths += 1
        self._tell("shrink", signal.SIGTTOU, ROLLED_BY)

    def _quiet(self) -> None:
        self._quiet_until = clock.monotonic() + self._dice.uniform(0.5, 3.0)
        self._tell("quiet", signal.SIGTSTP)

    def _roll(self) -> None:
        self.deaths += len(self._service.pids("worker"))
        self._tell("roll", signal.SIGHUP, ROLLED_BY)
