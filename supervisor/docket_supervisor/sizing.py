"""The number of worker processes while the service runs: who may change it, and to what."""

from __future__ import annotations

import logging
from collections.abc import Callable

from docket_supervisor.crew import Crew
from docket_supervisor.settings import SupervisorSettings

logger = logging.getLogger("docket.supervisor")


class Sizing:
    """Within `--min-processes` and `--max-processes`, whoever asks."""

    def __init__(self, settings: SupervisorSettings, crew: Crew, rolling: Callable[[], bool]) -> None:
        self._fewest, self._most = settings.min_processes, settings.most
        self._crew = crew
        self._rolling = rolling

    def scale(self, wanted: int) -> str:
        """Why there cannot be so many now; `""`: there will be."""
        if not self._fewest <= wanted <= self._most:
            return f"expected between {self._fewest} and {self._most} processes, got {wanted}"
        if wanted != self._crew.wanted and self._rolling():
            return "a rolling restart is going on"
        if wanted != self._crew.wanted:
            logger.info("scaling from %d to %d processes", self._crew.wanted, wanted)
            self._crew.resize(wanted)
        return ""

    def by(self, more: int) -> None:
        """What TTIN and TTOU do."""
        if problem := self.scale(self._crew.wanted + more):
            logger.warning("staying at %d processes: %s", self._crew.wanted, problem)
