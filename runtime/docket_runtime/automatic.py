"""Perpetual tasks that start by themselves: every worker that knows them sees to it, and the key keeps it one chain."""

from __future__ import annotations

import asyncio
import logging

from docket.dependencies.perpetual import Perpetual
from docket.docket import Docket
from docket.errors import DocketError
from docket.registry import Registry

_LOG = logging.getLogger("docket.worker")

_AGAIN = 60.0
"""Seconds after which a chain that somebody cancelled is begun anew; striking is what stops it for good."""


class AutomaticTasks:
    """Adds those that neither wait nor run; nothing happens for the others."""

    def __init__(self, docket: Docket, registry: Registry) -> None:
        self._docket = docket
        self._registry = registry

    async def run(self) -> None:
        while True:
            pause = _AGAIN
            for name in self._registry:
                statement = self._statement_of(name)
                if statement is not None:
                    try:
                        await self._docket.add(name, when=statement.first_due(), key=name)()
                    except DocketError as error:
                        _LOG.warning("could not add the automatic task %s: %s", name, error)
                        pause = 1.0
            await asyncio.sleep(pause)

    def _statement_of(self, name: str) -> Perpetual | None:
        task = self._registry.get(name)
        for statement in task.injected.values() if task is not None else ():
            if isinstance(statement, Perpetual) and statement.automatic:
                return statement
        return None
