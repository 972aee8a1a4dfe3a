"""The tasks' own Prometheus metrics: the client's multiprocess mode, with one set of files for each seat.

By default the client keeps files for each process id: those of dead processes stay, and with every worker that is
recycled there are more of them to read. A seat has one process at a time, so its next worker may count on in them.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

logger = logging.getLogger("docket.supervisor")

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_OWNER = "DOCKET_METRICS_FOLDER"


class MetricsFiles:
    """Nothing is kept, and nothing of the client is loaded, unless the supervisor opens it before the first fork."""

    def __init__(self) -> None:
        self.folder = ""
        self._ours = False
        self._identity = ""
        self._prepared = False

    def open(self) -> None:
        """The client's mode is on in everything that is forked from here; in the folder that is set, or one of ours."""
        mark = f"{os.getpid()}:{os.environ.get(VARIABLE, '')}"
        # It is ours also if a supervisor has made it that has replaced its own program since: that keeps its pid.
        self._ours = VARIABLE not in os.environ or os.environ.get(_OWNER) == mark
        if VARIABLE not in os.environ:
            try:
                os.environ[VARIABLE] = tempfile.mkdtemp(prefix="docket-metrics-")
            except OSError as error:
                self._ours = False
                logger.warning(
                    "no room for metrics of the tasks: %s; /metrics is without them: make room, or set %s to "
                    "another folder, and restart",
                    error,
                    VARIABLE,
                )
                return
            os.environ[_OWNER] = f"{os.getpid()}:{os.environ[VARIABLE]}"
        self.folder = os.environ[VARIABLE]

    def close(self) -> None:
        """The folder goes, if it is ours."""
        if self._ours:
            shutil.rmtree(self.folder, ignore_errors=True)
            del os.environ[VARIABLE], os.environ[_OWNER]

    def adopt(self, identity: str) -> None:
        """This process, and what is forked from it until that adopts another identity, keeps its metrics in the files
        of this one. For the first time before the tasks' modules are imported."""
        self._identity = identity
        if not self._prepared and self.folder:
            self._prepared = True
            import prometheus_client.values as values

            from docket_supervisor.reserved import value_class

            values.ValueClass = value_class(lambda: self._identity)

    def forget(self, seat: int) -> None:
        """Gauges of those that live do not show the dead. Called before anybody else is given that seat."""
        if self.folder:
            for path in Path(self.folder).glob(f"gauge_live*_{seat}.db"):
                path.unlink(missing_ok=True)
