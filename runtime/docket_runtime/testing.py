"""A worker for tests: it runs what there is and returns, and says what is left when that takes too long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, overload

from docket import sync
from docket.docket import Docket
from docket_runtime.surroundings import Surroundings
from docket_runtime.worker import Worker

_PATIENCE = timedelta(seconds=10)
_MOST_SHOWN = 10


@overload
def run_to_the_end(
    docket: Docket, *, within: timedelta = _PATIENCE, **options: Any
) -> Coroutine[Any, Any, None]: ...
@overload
def run_to_the_end(docket: sync.Docket, *, within: timedelta = _PATIENCE, **options: Any) -> None: ...
def run_to_the_end(docket: Docket | sync.Docket, *, within: timedelta = _PATIENCE, **options: Any) -> Any:
    """Nothing waits or runs any more, and nothing is scheduled for later: a worker has waited for that and run it.

    `options` are those of `Worker`. To be awaited, unless the docket is a blocking one. A task that fails does not fail
    this: its `get_result()` raises what it raised. TimeoutError, naming what is left, after more than `within`.
    """
    return _with_a_worker(docket, Worker.run_until_finished, within, options)


@overload
def run_what_is_due(
    docket: Docket, *, within: timedelta = _PATIENCE, **options: Any
) -> Coroutine[Any, Any, None]: ...
@overload
def run_what_is_due(docket: sync.Docket, *, within: timedelta = _PATIENCE, **options: Any) -> None: ...
def run_what_is_due(docket: Docket | sync.Docket, *, within: timedelta = _PATIENCE, **options: Any) -> Any:
    """Like `run_to_the_end`, but what is scheduled for later (a retry, too) stays there; `advance` brings it near."""
    # Its first look would be for suspects alone, and a worker that finds none then has not looked for anything else.
    options = {"surroundings": Surroundings(suspects=False), **options}
    return _with_a_worker(docket, Worker.run_until_empty, within, options)


def _with_a_worker(
    docket: Docket | sync.Docket,
    run: Callable[[Worker], Awaitable[None]],
    within: timedelta,
    options: dict[str, Any],
) -> Any:
    if isinstance(docket, sync.Docket):
        return asyncio.run(_beside(docket, run, within, options))
    return _run(docket, run, within, options)


async def _beside(
    docket: sync.Docket,
    run: Callable[[Worker], Awaitable[None]],
    within: timedelta,
    options: dict[str, Any],
) -> None:
    """A worker needs a loop, and a docket of that loop: one that knows the same tasks."""
    beside = Docket.from_settings(docket.settings)
    beside.core.registry = docket.core.registry
    async with beside:
        await _run(beside, run, within, options)


async def _run(
    docket: Docket, run: Callable[[Worker], Awaitable[None]], within: timedelta, options: dict[str, Any]
) -> None:
    options = {"drain_timeout": timedelta(0), **options}
    async with Worker(docket, **options) as worker:
        try:
            async with asyncio.timeout(within.total_seconds()):
                await run(worker)
        except TimeoutError:
            snapshot = await docket.snapshot()
            left = [f"{each.function_name} {each.key!r} ({each.state})" for each in snapshot.running]
            left += [
                f"{each.function_name} {each.key!r} ({each.state}, due at {each.when})"
                for each in snapshot.future
            ]
            more = f", and {len(left) - _MOST_SHOWN} more" if len(left) > _MOST_SHOWN else ""
            raise TimeoutError(
                f"the docket {docket.name!r} is not at its end after {within}; left are: "
                + ", ".join(left[:_MOST_SHOWN])
                + more
            ) from None
