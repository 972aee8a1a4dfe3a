"""A worker's place on the roll of those that are alive: taken under a fresh id, given up with all that came by it."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence

from redis.exceptions import RedisError

from docket.registry import Registry
from docket.store import scripts
from docket.store.asynchronous import AsyncStore
from docket.store.keys import Keys
from docket_runtime.housekeeping import host, process
from docket_runtime.settings import WorkerSettings

_LOG = logging.getLogger("docket.worker")

_TOLD_AT_ONCE = 500
"""Names of tasks in one script: a worker may know ten thousand, and Redis serves nobody else meanwhile."""


class Roll:
    """Each enlisting is a new incarnation; `worker_id` is the name, `/`, and what tells it from earlier ones."""

    def __init__(
        self,
        store: AsyncStore,
        keys: Keys,
        registry: Registry,
        name: str,
        settings: WorkerSettings,
        lease_ms: int,
        all_limited: bool,
        family: str = "",
    ) -> None:
        """`family`: what the ids of one worker on the rolls of several partitions have in common."""
        self._store, self._keys, self._registry = store, keys, registry
        self._name, self._settings, self._lease_ms = name, settings, lease_ms
        self.worker_id = ""
        self._family = family
        self._all_limited = all_limited
        self._told: dict[str, bool] = {}
        self._told_of = 0

    def be_new(self) -> None:
        self.worker_id = (
            f"{self._name}/{self._family}.{secrets.token_hex(2)}"
            if self._family
            else f"{self._name}/{secrets.token_hex(3)}"
        )

    def _is_limited(self, name: str) -> bool:
        return self._all_limited or ((task := self._registry.get(name)) is not None and bool(task.limits))

    async def enlist(self) -> None:
        """This incarnation is on the roll, and work that only lacked its tasks is back in line."""
        self._told = {}
        await self._tell_all(self._lease_ms)

    @property
    def is_behind(self) -> bool:
        """Tasks were registered since it was told which there are."""
        return self._told_of != self._registry.changes

    async def tell_the_rest(self) -> None:
        """The same for the tasks that were registered meanwhile. Nothing happens if it is not on the roll."""
        await self._tell_all(None)

    async def _tell_all(self, lease_ms: int | None) -> None:
        told_of = self._registry.changes
        all_names = list(self._registry)
        new = {name: self._is_limited(name) for name in all_names}
        names = [name for name in all_names if self._told.get(name) is not new[name]]
        adopted = await self._tell(names[:_TOLD_AT_ONCE], all_names, lease_ms)
        for start in range(_TOLD_AT_ONCE, len(names), _TOLD_AT_ONCE):
            adopted += await self._tell(names[start : start + _TOLD_AT_ONCE], (), lease_ms)
        self._told, self._told_of = new, told_of
        if adopted:
            _LOG.info("%d dead letters that lacked a worker for their task are in line again", adopted)

    async def _tell(self, names: list[str], all_names: Sequence[str], lease_ms: int | None) -> int:
        """Of these tasks. Says how many dead letters there were of them."""
        total = 0
        while True:
            adopted, more = await self._store.ask(
                scripts.enlist(
                    self._keys,
                    self.worker_id,
                    lease_ms=lease_ms,
                    host=host(),
                    process=process(),
                    concurrency=self._settings.concurrency,
                    tasks=names,
                    limited=[name for name in names if self._is_limited(name)],
                    all_tasks=all_names,
                )
            )
            total += int(adopted)
            if not more:
                return total

    async def leave(self, worker_id: str | None = None) -> None:
        """What was still delivered to this incarnation (or an earlier one) goes back; its name leaves the roll."""
        try:
            await self._store.ask(
                scripts.hand_over(
                    self._keys,
                    worker_id or self.worker_id,
                    "its worker has left",
                    max_crashes=self._settings.max_crashes,
                    begun=(),
                )
            )
        except (RedisError, OSError) as error:
            _LOG.warning("could not sign off (%s); what was claimed comes back when the lease lapses", error)
