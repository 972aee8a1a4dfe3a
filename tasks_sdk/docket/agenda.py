"""Calls collected first and then scattered evenly over a stretch of time: a flood of work becomes a stream."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, overload

from docket import clock, durations, scheduling
from docket.core import Core
from docket.execution import TaskCall
from docket.registry import Registry, TaskFunction
from docket.store.requests import Operation

if TYPE_CHECKING:
    from docket import sync
    from docket.docket import Docket
    from docket.execution import Execution

P = ParamSpec("P")


class Entry(NamedTuple):
    """One call of an agenda. Without a `key` each scattering gives it a fresh one."""

    function: TaskFunction | str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    key: str | None


class Agenda:
    """Calls in the order in which they were added; it belongs to no docket, and may be scattered again."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._registry = Registry()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def clear(self) -> None:
        """It is empty; what was scattered stays scheduled."""
        self._entries.clear()

    @overload
    def add(self, function: Callable[P, Any], key: str | None = None) -> Callable[P, None]: ...
    @overload
    def add(self, function: str, key: str | None = None) -> Callable[..., None]: ...
    def add(self, function: Callable[..., Any] | str, key: str | None = None) -> Callable[..., None]:
        """Call the result with the task's arguments: then the call is the last of the agenda.

        With a `key` a second scattering is a no-op for as long as the execution of the first one waits or runs.
        TypeError if the function is given and cannot be called like this.
        """
        scheduling.check(function, None, key)

        def append(*args: Any, **kwargs: Any) -> None:
            if not isinstance(function, str):
                self._registry.register(function).check_call(args, kwargs)
            self._entries.append(Entry(function, args, kwargs, key))

        return append

    @overload
    def scatter(
        self,
        docket: Docket,
        over: timedelta,
        start: datetime | None = None,
        jitter: timedelta | None = None,
    ) -> Coroutine[Any, Any, list[Execution]]: ...
    @overload
    def scatter(
        self,
        docket: sync.Docket,
        over: timedelta,
        start: datetime | None = None,
        jitter: timedelta | None = None,
    ) -> list[sync.Execution]: ...
    def scatter(
        self,
        docket: Docket | sync.Docket,
        over: timedelta,
        start: datetime | None = None,
        jitter: timedelta | None = None,
    ) -> Any:
        """All calls are scheduled evenly from `start` (now) to `start + over`, both included; a single one in the
        middle. `jitter` moves each by up to so much either way, but never before `start`.

        Returns the executions in order (to be awaited, unless the docket is a blocking one), as `add_many` does: each
        says by its `disposition` what came of it.

        KeyError: a name that neither this docket nor any worker so far knows; what stands before it in the agenda is
        scheduled, it and what follows is not. TypeError (a name whose function this docket knows is called wrongly) and
        CannotStore (an argument cannot be pickled): nothing was scheduled.
        """
        return docket.store.perform(self._scatter(docket.core, over, start, jitter))

    def _scatter(
        self, core: Core[Any], over: timedelta, start: datetime | None, jitter: timedelta | None
    ) -> Operation[list[Any]]:
        moments = _moments(len(self._entries), over, start, jitter)
        calls: list[TaskCall] = []
        for entry, when in zip(self._entries, moments, strict=True):
            calls.append(
                scheduling.call_of(core.registry, entry.function, when, entry.key, entry.args, entry.kwargs)
            )
        stranger = yield from _first_stranger(core, calls)
        executions = yield from core.schedule(calls[:stranger])
        if stranger is not None:
            name = calls[stranger].function_name
            raise KeyError(
                f"no task named {name!r}: it is not registered here, and no worker has ever said that it knows it; "
                f"{stranger} of {len(calls)} calls were scheduled"
            )
        return executions


def _moments(
    count: int, over: timedelta, start: datetime | None, jitter: timedelta | None
) -> Iterator[datetime]:
    """Checked at once, then a moment for each call."""
    durations.positive(over, "over")
    jitter = durations.zero_or_more(jitter, "jitter") if jitter is not None else timedelta(0)
    if start is None:
        start = clock.now()
    clock.to_us(start)
    return _spread(count, over, start, jitter)


def _spread(count: int, over: timedelta, start: datetime, jitter: timedelta) -> Iterator[datetime]:
    for i in range(count):
        share = i / (count - 1) if count > 1 else 0.5
        yield max(start, start + over * share + jitter * random.uniform(-1, 1))


def _first_stranger(core: Core[Any], calls: list[TaskCall]) -> Operation[int | None]:
    """Where the first call stands whose name nobody knows; all names are asked for in one round trip."""
    names = list(dict.fromkeys(call.function_name for call in calls if call.function is None))
    if not names:
        return None
    strangers = set(names) - (yield from core.known_tasks(names))
    return next((i for i, call in enumerate(calls) if call.function_name in strangers), None)
