"""Whether Redis answers now."""

from __future__ import annotations

import anyio

from docket.store.ledgers import open_ledger
from docket_supervisor.settings import SupervisorSettings
from docket_supervisor.steward import AWAY


def reach(settings: SupervisorSettings) -> str:
    """Why Redis cannot be reached within the time that a start would wait for it; `""` if it can."""
    return anyio.run(_reach, settings)


async def _reach(settings: SupervisorSettings) -> str:
    try:
        with anyio.fail_after(settings.redis_patience.total_seconds()):
            async with open_ledger(settings.docket, settings.worker.serve_partitions) as ledger:
                await ledger.ping()
    except TimeoutError:
        return "no answer"
    except AWAY as error:
        return str(error)
    return ""
