"""The load: more work again and again, of every kind, and what Redis has acknowledged of it."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import redis

from chaos.service import Broken
from chaos.workload import FATAL, tasks
from docket import clock
from docket.errors import DocketError
from docket.execution import Disposition, TaskCall
from docket.message import STATES_ENDED
from docket.sync import Docket

BATCH = 20
"""Executions that are added at once."""

PAUSE = 0.25
REPLACED = 3
"""Keys that are replaced again and again."""


@dataclass
class Asked:
    """One call that Redis was asked to schedule. Not `acknowledged`: no reply came, so it may be there or not."""

    key: str
    task: str
    version: int = 0
    acknowledged: bool = True

    @property
    def fatal(self) -> bool:
        """It can never come to its end, and must become a dead letter."""
        return self.task in FATAL


class Load(threading.Thread):
    """Adds until `stop()`. In a thread of its own, since a Redis that is away makes whoever asks it wait."""

    def __init__(self, docket: Docket, seed: int) -> None:
        super().__init__(name="load", daemon=True)
        self.asked: list[Asked] = []
        self._docket = docket
        self._dice = random.Random(seed + 1)
        self._stopping = threading.Event()
        self._extra: deque[tuple[str, tuple[Any, ...]]] = deque()
        self._versions: dict[str, int] = {}
        self._done = False
        self.between_requests = threading.Lock()
        """Whoever holds it knows that nothing is being asked for."""
        for task in tasks:
            docket.register(task)

    def also(self, task: str, *arguments: Any) -> None:
        """With the next batch, or the last."""
        self._extra.append((task, arguments))

    def run(self) -> None:
        while not self._stopping.wait(PAUSE):
            with self.between_requests:
                self._add()
                if self._dice.random() < 0.5:
                    self._replace()
        self._add(BATCH // 4)  # what was asked for meanwhile, and a sign that all goes on
        self._done = True

    def stop(self, within: float = 30.0) -> None:
        self._stopping.set()
        self.join(within)
        if self.is_alive():
            raise Broken(f"Redis has not answered the load within {within:g}s")
        if not self._done:
            raise Broken("the load has ended with an error of its own")

    def _add(self, most: int = BATCH) -> None:
        calls = [self._call(name, *arguments) for name, *arguments in self._mixture(most)]
        while self._extra:
            name, arguments = self._extra.popleft()
            calls.append(self._call(name, *arguments))
        asked = [Asked(call.key, call.function_name, acknowledged=False) for call in calls]
        self.asked += asked
        try:
            added = self._docket.add_many(calls)
        except (DocketError, redis.RedisError):
            return
        for each, execution in zip(asked, added, strict=True):
            each.acknowledged = execution.disposition is Disposition.SCHEDULED

    def _replace(self) -> None:
        key = f"newest-{self._dice.randrange(REPLACED)}"
        version = self._versions[key] = self._versions.get(key, 0) + 1
        asked = Asked(key, "newest", version, acknowledged=False)
        self.asked.append(asked)
        try:
            replaced = self._docket.replace("newest", None, key)(version, self._dice.uniform(0.0, 0.4))
        except (DocketError, redis.RedisError):
            return
        asked.acknowledged = replaced.disposition is Disposition.SCHEDULED

    def _call(self, name: str, *arguments: Any) -> TaskCall:
        key = f"{name}-{len(self.asked)}-{self._dice.getrandbits(32):08x}"
        if name != "later":
            return self._docket.call(name, key=key)(*arguments)
        (seconds,) = arguments
        when = clock.now() + timedelta(seconds=seconds)
        return self._docket.call(name, when, key)(clock.monotonic() + seconds)

    def _mixture(self, most: int) -> Iterator[tuple[str, *tuple[float, ...]]]:
        for _ in range(most):
            match self._dice.random():
                case chance if chance < 0.42:
                    yield ("quick",)
                case chance if chance < 0.68:
                    yield ("quick_sync",)
                case chance if chance < 0.75:
                    yield ("slow", self._dice.uniform(0.05, 1.5))
                case chance if chance < 0.81:
                    yield ("slow_sync", self._dice.uniform(0.05, 1.0))
                case chance if chance < 0.86:
                    yield ("shaky", self._dice.randint(0, 3))
                case chance if chance < 0.91:
                    yield ("later", self._dice.uniform(0.2, 3.0))
                case chance if chance < 0.955:
                    yield ("three_at_once", self._dice.uniform(0.1, 0.6))
                case _:
                    yield ("three_at_once_sync", self._dice.uniform(0.1, 0.6))

    def unfinished(self) -> list[tuple[str, str]]:
        """What has not come to an end yet, with the state it is in."""
        snapshot = self._docket.snapshot()
        return [
            (each.key, str(each.state))
            for each in (*snapshot.future, *snapshot.running)
            if each.state not in STATES_ENDED
        ]
