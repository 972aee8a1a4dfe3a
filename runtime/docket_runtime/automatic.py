"""Perpetual tasks that start by themselves: every worker that knows them sees to it, and the key keeps it one chain."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

from redis.exceptions import RedisError

from docket.dependencies.perpetual import Perpetual
from docket.docket import Docket
from docket.errors import DocketError
from docket.execution import Disposition, Execution, ExecutionState, TaskCall
from docket.registry import Registry

_LOG = logging.getLogger("docket.worker")

_AGAIN = 60.0
"""Seconds after which a chain that somebody cancelled is begun anew; striking is what stops it for good."""


_AT_ONCE = 200
"""There may be thousands: one at a time the last would wait for seconds, all at once would hold up the loop."""


class AutomaticTasks:
    """Adds those that neither wait nor run; nothing happens for the others. Nor for those that were set aside: what has
    killed its workers so often begins again when somebody says so."""

    def __init__(self, docket: Docket, registry: Registry) -> None:
        self._docket = docket
        self._registry = registry
        self._dead: set[str] = set()

    async def run(self) -> None:
        while True:
            calls = list(self._calls())
            refused = [
                await self._add(calls[start : start + _AT_ONCE]) for start in range(0, len(calls), _AT_ONCE)
            ]
            await asyncio.sleep(1.0 if any(refused) else _AGAIN)

    def _calls(self) -> Iterator[TaskCall]:
        for name in self._registry:
            statement = self._statement_of(name)
            if statement is not None:
                call = self._docket.call(name, when=statement.first_due(), key=name)()
                yield replace(call, automatic=True)

    async def _add(self, calls: Sequence[TaskCall]) -> bool:
        """Whether any of them was refused."""
        try:
            added = await self._docket.add_many(calls)
        except (DocketError, RedisError, OSError) as error:
            # Also what is no outage, such as a server that is busy with somebody's script: it ends no worker.
            _LOG.warning(
                "could not add the automatic tasks %s: %s", _listed([call.key for call in calls]), error
            )
            return True
        refused = [each for each in added if each.schedule_exception is not None]
        for each in refused:
            _LOG.warning("could not add the automatic task %s: %s", each.key, each.schedule_exception)
        self._tell_of_the_dead(added)
        return bool(refused)

    def _tell_of_the_dead(self, added: Sequence[Execution]) -> None:
        """Once each."""
        for each in added:
            is_there = each.disposition is Disposition.ALREADY_SCHEDULED
            if not is_there or each.state is not ExecutionState.FAILED:
                self._dead.discard(each.key)
            elif each.key not in self._dead:
                self._dead.add(each.key)
                _LOG.warning(
                    "the automatic task %s is a dead letter: it begins again when that is retried or purged",
                    each.key,
                )

    def _statement_of(self, name: str) -> Perpetual | None:
        task = self._registry.get(name)
        for statement in task.injected.values() if task is not None else ():
            if isinstance(statement, Perpetual) and statement.automatic:
                return statement
        return None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
