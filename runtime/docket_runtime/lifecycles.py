"""What classes of the user's own dependencies do around a run of the worker, once each: their `worker_lifecycle`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from docket.dependencies.base import Dependency
from docket.dependencies.functional import FactoryStatement

if TYPE_CHECKING:
    from docket_runtime.worker import Worker


async def begin(worker: Worker, stack: AsyncExitStack) -> None:
    """Those of the tasks that are registered by now, and of what the worker opens around every task, are entered."""
    for kind in dict.fromkeys(map(type, _stated(worker))):
        lifecycle: Any = getattr(kind, "worker_lifecycle", None)
        if lifecycle is not None:
            await stack.enter_async_context(lifecycle(worker.docket, worker))


def _stated(worker: Worker) -> Iterator[Dependency]:
    yield from _with_those_beneath(each for _, each in worker.around_every_task)
    for name in worker.registry:
        task = worker.registry.get(name)
        if task is not None and (task.injected or task.wrapped):
            yield from _with_those_beneath((*task.injected.values(), *(each for _, each in task.wrapped)))


def _with_those_beneath(statements: Iterable[Dependency]) -> Iterator[Dependency]:
    for each in statements:
        yield each
        if isinstance(each, FactoryStatement):
            yield from _with_those_beneath(each.statements.values())
