"""The stage on which a drill takes place: a service, its Redis, the way between them, and who is to blame for what."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path

import psutil

from chaos.fleets import RedisCluster, Watched
from chaos.incidents import ALL, Incident, Incidents
from chaos.load import Load
from chaos.patience import BOOTED_BY, LEFT_BY, SETTLED_IN
from chaos.proxy import TCPProxy
from chaos.server import RedisServer
from chaos.service import Broken, Service
from docket import clock
from docket.sync import Docket


class Stage:
    """What deeds are done to. `turn()` does what was promised for later, and starts a service anew that had to end."""

    def __init__(
        self,
        docket: Docket,
        url: str,
        folder: Path,
        options: tuple[str, ...],
        variables: dict[str, str],
        load: Load,
        seed: int,
        *,
        server: RedisServer | None = None,
        proxy: TCPProxy | None = None,
        fleet: RedisCluster | Watched | None = None,
    ) -> None:
        """`url`: how the service reaches Redis. `server`: only if Redis is our own; `fleet`: if it is several."""
        self.docket, self.load, self.server, self.proxy = docket, load, server, proxy
        self.fleet = fleet
        self.dice = random.Random(seed)
        self.incidents = Incidents()
        self.frozen: set[int] = set()
        self.deaths = 0
        """Processes that may have died with runs under way."""
        self.problems: list[str] = []
        self._begin = lambda number: Service(url, docket.name, folder, *options, number=number, **variables)
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._left_behind: list[tuple[float, psutil.Process]] = []
        self._away: Incident | None = None
        self._codes: tuple[int, ...] = ()
        self._is_new = False
        self._started_at = clock.monotonic()
        self.service = self._begin(1)
        try:
            self.service.wait_for("/startup", BOOTED_BY)
        except BaseException:
            self.service.close()
            raise
        self._settles_in()

    @property
    def is_away(self) -> bool:
        """There is no service that could work just now, because one had to be started anew."""
        return self._away is not None

    def later(self, seconds: float, deed: Callable[[], None]) -> None:
        self._later.append((clock.monotonic() + seconds, deed))

    def end_service(self, what: str, number: signal.Signals, codes: tuple[int, ...]) -> None:
        """It gets this signal, must leave with one of these codes, and another one is started."""
        self._away = self.incidents.happened(what, ALL, number.name, until=clock.monotonic() + BOOTED_BY)
        self._codes = codes
        self.deaths += len(self.service.pids("worker")) + len(self.service.pids("quarantine"))
        # Its workers go on as orphans if it is killed, and must be gone by then.
        gone_by = clock.monotonic() + LEFT_BY
        self._left_behind += [(gone_by, process) for process in self.service.children()]
        self.service.send(self.service.pid, number)

    def turn(self) -> None:
        now = clock.monotonic()
        due = [deed for at, deed in self._later if at <= now]
        self._later = [(at, deed) for at, deed in self._later if at > now]
        for deed in due:
            deed()
        if (code := self.service.process.poll()) is not None:
            self._replace_service(code)
        elif self._away is not None and self._is_new and self.service.has_started():
            self._is_new = False
            self.incidents.is_over(self._away)
            self._away = None
            self._settles_in()
        elif self._is_new and now - self._started_at > BOOTED_BY:
            raise Broken(f"the service has not started within {BOOTED_BY:g}s; see {self.service.log}")

    def _replace_service(self, code: int) -> None:
        if self._away is None or code not in self._codes:
            raise Broken(f"the service has ended with {code}; see {self.service.log}")
        self._codes = ()
        self._started_at, self._is_new = clock.monotonic(), True
        self.service = self._begin(self.service.number + 1)

    def _settles_in(self) -> None:
        self.incidents.happened("settled in", ALL, until=clock.monotonic() + SETTLED_IN)

    def undo(self) -> None:
        """Nobody is frozen, nothing is paused or away any more."""
        give_up_at = clock.monotonic() + BOOTED_BY
        while self._later or self._away is not None:
            self._later = [(0.0, deed) for _, deed in self._later]
            self.turn()
            if clock.monotonic() > give_up_at:
                raise Broken(f"the service has not started within {BOOTED_BY:g}s; see {self.service.log}")
        self.service.send(self.service.pid, signal.SIGCONT)

    def find_stragglers(self) -> list[str]:
        """Orphans that outlived their supervisor for too long, a sentence each."""
        found: list[str] = []
        for gone_by, process in self._left_behind:
            try:
                process.wait(max(0.1, gone_by - clock.monotonic()))
            except psutil.TimeoutExpired:
                found.append(f"process {process.pid} has outlived its supervisor by more than {LEFT_BY:g}s")
        return found

    def close(self) -> None:
        """Nothing of it is left, whatever state it is in."""
        self.service.close()
        for _, process in self._left_behind:
            try:
                process.kill()
            except psutil.Error:
                pass
