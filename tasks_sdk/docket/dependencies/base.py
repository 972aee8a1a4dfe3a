"""What makes a parameter's default a request for something."""

from __future__ import annotations

from docket.context import current_docket, current_execution, current_worker


class Dependency:
    """A statement in a task's signature: what its parameter shall receive, or how the task shall be treated.

    A subclass of the user's own is an asynchronous context manager: it is entered around each execution, and the
    parameter receives what `__aenter__` returns. `docket`, `worker` and `execution` are context variables: what is
    current there. `single`: at most one of this class (or a subclass) per task. If it has a class method
    `worker_lifecycle(docket, worker)`, the asynchronous context manager that this returns is entered around each run of
    a worker whose tasks (those registered by then) state the class.
    """

    single: bool = False
    docket = current_docket
    worker = current_worker
    execution = current_execution


class Provider(Dependency):
    """A statement that supplies a value, so that it may also stand in `Annotated[...]`."""
