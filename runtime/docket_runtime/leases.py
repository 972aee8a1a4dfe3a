"""A worker that is alone renews its own lease, from a thread: a blocked event loop must not make it look dead."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from redis.exceptions import RedisError

from docket.errors import DocketError
from docket.store import scripts
from docket.store.blocking import BlockingStore
from docket.store.connect import Address
from docket.store.keys import Keys
from docket.store.ledger import OFTEN

_LOG = logging.getLogger("docket.worker.leases")

_AFTER_A_FAILURE = 0.2


class LeaseKeeper:
    """Renews until it is closed; calls `lapsed` (from its thread) if the worker has been struck off the roll."""

    def __init__(
        self,
        address: Address,
        keys: Keys,
        *,
        interval: timedelta,
        lease: int,
        vouched: Callable[[], bool],
        lapsed: Callable[[], object],
    ) -> None:
        self._address, self._keys = address, keys
        self._interval, self._lease = interval.total_seconds(), lease
        # Who is vouched for only asks whether that still holds.
        self._at_ease = max(self._interval, lease / 1000 / OFTEN)
        self._vouched, self._lapsed = vouched, lapsed
        self._worker_id = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="docket leases", daemon=True)

    def keep(self, worker_id: str) -> None:
        """From now on this id's lease is renewed."""
        self._worker_id = worker_id
        if not self._thread.is_alive() and not self._closing.is_set():
            self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1)

    def _run(self) -> None:
        store: BlockingStore | None = None
        pause = self._interval
        told = False
        while not self._closing.wait(pause):
            if self._vouched():
                pause = self._at_ease
                continue
            pause = self._interval
            worker_id = self._worker_id
            try:
                store = store or BlockingStore(self._address, connections=1)
                (held,) = store.ask(scripts.renew(self._keys, [worker_id], self._lease))
                if not held:
                    self._lapsed()
                told = False
            except Exception as error:
                # Also what a credential provider of the user's raises: without this thread nobody would renew any more.
                expected = isinstance(error, (RedisError, DocketError, OSError))
                if not told and not expected:
                    _LOG.warning("could not renew the lease, trying again", exc_info=error)
                    told = True
                _LOG.debug("could not renew the lease: %s", error)
                pause = min(self._interval, _AFTER_A_FAILURE)
        if store is not None:
            store.close()
