"""The service as a program: started, put in the place of another one, or only asked whether it could be."""

from __future__ import annotations

import logging

from docket_supervisor.child import RUN_WORKER
from docket_supervisor.codes import ExitCode
from docket_supervisor.estate import inherited
from docket_supervisor.layout import layout
from docket_supervisor.settings import SupervisorSettings
from docket_supervisor.stewardship import RUN_STEWARD
from docket_supervisor.succession import answered
from docket_supervisor.supervisor import Supervisor

logger = logging.getLogger("docket.supervisor")


def serve(
    settings: SupervisorSettings, *, run_worker: str = RUN_WORKER, run_steward: str = RUN_STEWARD
) -> int:
    """Returns the exit code when the service has ended; at a USR2 another program returns it."""
    if answered(settings):
        return ExitCode.CLEAN
    estate = inherited()
    if estate is not None and estate.layout != layout(settings):
        # It was asked before, so it has been replaced since. The workers see our end, and drain.
        logger.critical("cannot go on with what the former program has left; restart the service")
        return ExitCode.BUG
    return Supervisor(settings, estate=estate, run_worker=run_worker, run_steward=run_steward).run()
