"""What the steward says of the service to whoever asks over HTTP."""

from __future__ import annotations

import importlib
import json
from collections.abc import Awaitable, Callable

from docket_supervisor.answering import Answer, Request
from docket_supervisor.board import Board
from docket_supervisor.metrics_files import MetricsFiles
from docket_supervisor.readiness import Probe, readiness
from docket_supervisor.settings import SupervisorSettings


class Health:
    """Answers from the board. For readiness Redis is asked as well: it must not be told late that it is away. And for
    figures, which are not kept up to date while nothing happens and nobody asks."""

    def __init__(
        self,
        settings: SupervisorSettings,
        board: Board,
        files: MetricsFiles,
        ping: Callable[[], Awaitable[object]],
        measure: Callable[[], Awaitable[object]],
    ) -> None:
        self._settings = settings
        self._board = board
        self._files = files
        self._ping = ping
        self._measure = measure

    async def answer(self, request: Request) -> Answer:
        match request.path:
            case "/startup":
                return _probed(readiness(self._board, self._settings).startup)
            case "/ready":
                await self._ping()
                return _probed(readiness(self._board, self._settings).ready)
            case "/live":
                return _probed(readiness(self._board, self._settings).live)
            case "/metrics":
                await self._measure()
                return self._metrics(request.accept)
            case "/status":
                await self._measure()
                return self._status()
            case _:
                # Not 404: a probe at a mistaken path must fail, and it is told apart by what it is told.
                return Answer.text(False, "ask for /startup, /ready, /live, /metrics or /status")

    def _metrics(self, accept: str) -> Answer:
        # By name and when first asked: the client is of no use to a steward that nobody scrapes.
        exposition = importlib.import_module("docket_supervisor.exposition")
        name = self._settings.docket.name
        collectors = [
            exposition.Runs(name, self._board.tallies.rows()),
            exposition.Service(name, self._board),
        ]
        if self._files.folder:
            collectors.append(exposition.Application(self._files.folder))
        body, content_type = exposition.expose(collectors, accept)
        return Answer(True, body, content_type)

    def _status(self) -> Answer:
        status = importlib.import_module("docket_supervisor.status")
        body = json.dumps(status.assemble(self._board, self._settings), indent=2, ensure_ascii=False)
        return Answer(True, body.encode() + b"\n", "application/json")


def _probed(probe: Probe) -> Answer:
    return Answer.text(probe.passed, probe.reason)
