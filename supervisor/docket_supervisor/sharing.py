"""What is done in a process before others are forked from it, so that they go on sharing its memory."""

from __future__ import annotations

import gc
import importlib
import sys

from docket_supervisor.child import RUN_WORKER
from docket_supervisor.density import fill_holes
from docket_supervisor.immortality import immortalise
from docket_supervisor.settings import SupervisorSettings


def share_memory(settings: SupervisorSettings, run_worker: str) -> None:
    """The order matters: what is done later would undo a part of what was done before."""
    if settings.watch or not settings.share_memory:
        # Whoever develops waits for the next worker, and not for memory.
        gc.collect()
        gc.freeze()
        return
    forget_lookups = getattr(sys, "_clear_internal_caches", None) or getattr(sys, "_clear_type_cache", None)
    if forget_lookups is not None:
        # They refer to names of all that was imported; each that makes room for another in a child would be written to.
        forget_lookups()
    if run_worker == RUN_WORKER:
        # By its name, like every room of the runtime.
        importlib.import_module("docket_runtime.rehearsal").rehearse(settings.docket, settings.worker)
    # The collector empties the lists of free objects, too: in a child these would be scattered over old pages.
    gc.collect()
    fill_holes()
    immortalise()
    # Frozen objects are never looked at by the collector again, so their pages are not copied on write.
    gc.freeze()
