"""Dependencies opened before a task's body and closed after it.

Functions are called once for each execution, whatever parameters ask for them. What is asynchronous is opened on the
loop. For a sync task, what is not (and what nothing asynchronous needs) is opened in the task's own thread, around the
call: it may block, and a database connection opened there may be used there. Of what these need in turn, all that is
no such function has been opened on the loop before.

What is opened in the thread is given the blocking skins of docket, execution and progress, and so is the sync task
itself; what is opened on the loop, for whatever task, those to be awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from docket.dependencies.base import Dependency
from docket.dependencies.functional import (
    NOTHING,
    ArgumentStatement,
    EffectiveArgument,
    FactoryStatement,
    SharedByAll,
)
from docket.dependencies.perpetual import Perpetual
from docket.dependencies.retry import Retry
from docket.dependencies.statements import refuse_a_second_single
from docket.execution import Execution
from docket.registry import Task
from docket_runtime.ambient import opener_of
from docket_runtime.limits import TimeLimit

if TYPE_CHECKING:
    from docket_runtime.worker import Worker


class Opening:
    """What one execution's dependencies are opened with, and what was opened so far."""

    __slots__ = (
        "_beneath",
        "_effective",
        "_failures",
        "_loop",
        "_stack",
        "_supplied",
        "_thread_stack",
        "_values",
        "execution",
        "expire",
        "failure",
        "limit_names",
        "perpetual",
        "retry",
        "task",
        "time_limit",
        "worker",
    )

    def __init__(
        self, worker: Worker, task: Task, execution: Execution, expire: Callable[[], object]
    ) -> None:
        self.worker = worker
        self.task = task
        self.execution = execution
        self.expire = expire
        self.retry: Retry | None = None
        self.perpetual: Perpetual | None = None
        self.time_limit: TimeLimit | None = None
        self.limit_names: Mapping[str, str] = {}
        self.failure: BaseException | None = None
        """Why something could not be opened in the thread: then the body has not run."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stack: AsyncExitStack | None = None
        self._thread_stack: ExitStack | None = None
        self._supplied: Mapping[str, Any] | None = None
        self._effective: dict[str, Any] = {}
        self._values: dict[Any, Any] = {}
        self._beneath: dict[int, Any] = {}
        """What was opened on the loop for those that are opened in the thread, by the identity of the statement."""
        self._failures: dict[str, Exception] = {}

    # --- on the loop -----------------------------------------------------------------------------------------------

    async def open(self) -> dict[str, Any]:
        """The keyword arguments, opened on the loop; `call_in_thread` adds the rest for a sync task, and tells of what
        has failed here together with what fails there."""
        kwargs = self.execution.kwargs
        self._loop = asyncio.get_running_loop()
        given = self.task.given(len(self.execution.args))
        injected = self.task.injected
        around = (*self.worker.around_every_task, *self.task.wrapped)
        for name, statement in around:
            try:
                await self._open_around(name, statement, given)
            except Exception as error:
                self._failures[name] = error
        if injected:
            kwargs = dict(kwargs)
        for name, statement in injected.items():
            if name in given or name in kwargs:
                passed = self.supplied.get(name)
                self.retry = passed if isinstance(passed, Retry) else self.retry
                continue
            try:
                if self._waits_for_the_thread(statement):
                    await self._open_beneath(statement)
                else:
                    kwargs[name] = await self._parameter(name, statement)
            except Exception as error:
                self._failures[name] = error
        if self.worker.around_every_task:
            # By itself the task was checked when it was registered. Only now, when it is known what a failure leads to.
            refuse_a_second_single(self.task.name, (*around, *injected.items()))
        if not self.needs_the_thread:
            self._raise_failures()
        return kwargs

    @property
    def is_open(self) -> bool:
        """Something was opened on the loop, and is not closed yet."""
        return self._stack is not None

    async def close(self, error: BaseException | None) -> bool:
        """In reverse order of opening; they see how the body ended. True if one of them has dealt with the error."""
        if self._stack is None:
            return False
        stack, self._stack = self._stack, None
        return bool(
            await stack.__aexit__(
                type(error) if error else None, error, error.__traceback__ if error else None
            )
        )

    @property
    def supplied(self) -> Mapping[str, Any]:
        """What the caller has passed, by parameter."""
        supplied = self._supplied
        if supplied is None:
            bound = self.task.signature.bind_partial(*self.execution.args, **self.execution.kwargs)
            arguments = dict(bound.arguments)
            for parameter in self.task.signature.parameters.values():
                if parameter.kind is parameter.VAR_KEYWORD:
                    arguments |= arguments.pop(parameter.name, {})
            supplied = self._supplied = arguments
        return supplied

    async def _open_around(self, name: str, statement: Dependency, given: tuple[str, ...]) -> None:
        bind = getattr(statement, "bind_to_parameter", None)
        if bind is not None and name in self.task.parameters:
            statement = bind(name, await self._effective_value(name, NOTHING))
        if self._waits_for_the_thread(statement):
            await self._open_beneath(statement)
        else:
            await self._open(name, statement, blocking=not self.task.is_async)

    def _waits_for_the_thread(self, statement: Dependency) -> bool:
        return (
            not self.task.is_async
            and isinstance(statement, FactoryStatement)
            and not isinstance(statement, SharedByAll)
            and not statement.is_async
        )

    async def _open_beneath(self, statement: Dependency) -> None:
        """Of what will be opened in the thread, all that must be opened here first."""
        if not isinstance(statement, FactoryStatement):
            return
        for name, each in statement.statements.items():
            if self._waits_for_the_thread(each):
                await self._open_beneath(each)
            elif isinstance(each, EffectiveArgument):
                other = self.task.injected.get(each.parameter or name)
                if other is not None and not self._waits_for_the_thread(other):
                    await self._effective_value(each.parameter or name, each.default)
            elif not isinstance(each, ArgumentStatement) and id(each) not in self._beneath:
                self._beneath[id(each)] = await self._open(name, each, blocking=True)

    async def _parameter(self, name: str, statement: Dependency) -> Any:
        """The value of one of the task's own parameters, opened once."""
        if name not in self._effective:
            self._effective[name] = await self._open(name, statement, blocking=not self.task.is_async)
        return self._effective[name]

    async def _open(self, name: str, statement: Dependency, *, blocking: bool) -> Any:
        """`blocking`: whoever asks for it runs in the thread."""
        if isinstance(statement, FactoryStatement):
            return await self._call(statement)
        if isinstance(statement, ArgumentStatement):
            return await self._argument(name, statement)
        opener = opener_of(statement)
        if opener is not None:
            return opener(self, statement, blocking)
        return await self._entered(statement)

    async def _argument(self, name: str, statement: ArgumentStatement) -> Any:
        wanted = statement.parameter or name
        if wanted in self.supplied:
            return self.supplied[wanted]
        if isinstance(statement, EffectiveArgument):
            found = await self._effective_value(wanted, statement.default)
            if found is not NOTHING:
                return found
        return _missing(wanted, statement)

    async def _effective_value(self, name: str, default: Any) -> Any:
        if name in self.supplied:
            return self.supplied[name]
        injected = self.task.injected.get(name)
        if injected is not None:
            return await self._parameter(name, injected)
        return self._signature_default(name, default)

    def _signature_default(self, name: str, otherwise: Any) -> Any:
        parameter = self.task.signature.parameters.get(name)
        if parameter is None or parameter.default is parameter.empty:
            return otherwise
        return parameter.default

    async def _call(self, statement: FactoryStatement) -> Any:
        identity = statement.identity
        if isinstance(statement, SharedByAll):
            return await self.worker.shared.get(identity, lambda stack: self._make(statement, stack))
        if identity not in self._values:
            self._values[identity] = await self._make(statement, self._exit_stack())
        return self._values[identity]

    async def _make(self, statement: FactoryStatement, stack: AsyncExitStack) -> Any:
        kwargs = statement.constants
        for name, each in statement.statements.items():
            kwargs[name] = await self._open(name, each, blocking=False)
        made = statement.call(**kwargs)
        if hasattr(made, "__aenter__"):
            return await stack.enter_async_context(made)
        if hasattr(made, "__enter__"):
            return stack.enter_context(made)
        return await made if hasattr(made, "__await__") else made

    async def _entered(self, statement: Any) -> Any:
        if not hasattr(statement, "__aenter__"):
            raise TypeError(f"nobody here knows what to do with a {type(statement).__name__}")
        return await self._exit_stack().enter_async_context(statement)

    def _exit_stack(self) -> AsyncExitStack:
        if self._stack is None:
            self._stack = AsyncExitStack()
        return self._stack

    # --- in the thread ---------------------------------------------------------------------------------------------

    @property
    def needs_the_thread(self) -> bool:
        return not self.task.is_async and any(
            self._waits_for_the_thread(statement)
            for _, statement in (
                *self.worker.around_every_task,
                *self.task.wrapped,
                *self.task.injected.items(),
            )
        )

    def call_in_thread(
        self, kwargs: dict[str, Any], body_begins: Callable[[], object], body_ended: Callable[[], object]
    ) -> Any:
        """What the body returns. The rest is opened before `body_begins` is called, and closed after `body_ended`."""
        with ExitStack() as self._thread_stack:
            try:
                kwargs = self._open_in_thread(kwargs)
                self._raise_failures()
            except BaseException as error:
                self.failure = error
                raise
            try:
                body_begins()
                return self.task.function(*self.execution.args, **kwargs)
            finally:
                body_ended()
        if self.failure is not None:
            raise self.failure  # whatever those that were open already made of it: the body has not run
        return None

    def _open_in_thread(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        for name, statement in self.worker.around_every_task:
            if name not in self._failures and self._waits_for_the_thread(statement):
                try:
                    self._here(name, statement)
                except Exception as error:
                    self._failures[name] = error
        for name, statement in self.task.injected.items():
            if name in kwargs or name in self.supplied or not self._waits_for_the_thread(statement):
                continue
            if name in self._failures:
                continue  # what it needs could not be opened
            try:
                kwargs[name] = self._parameter_here(name, statement)
            except Exception as error:
                self._failures[name] = error
        return kwargs

    def _parameter_here(self, name: str, statement: Dependency) -> Any:
        if name not in self._effective:
            self._effective[name] = self._here(name, statement)
        return self._effective[name]

    def _here(self, name: str, statement: Dependency) -> Any:
        if isinstance(statement, FactoryStatement) and self._waits_for_the_thread(statement):
            return self._call_here(statement)
        if isinstance(statement, ArgumentStatement):
            return self._argument_here(name, statement)
        return self._beneath[id(statement)]

    def _argument_here(self, name: str, statement: ArgumentStatement) -> Any:
        wanted = statement.parameter or name
        if wanted in self.supplied:
            return self.supplied[wanted]
        if isinstance(statement, EffectiveArgument):
            injected = self.task.injected.get(wanted)
            if injected is not None:
                return self._parameter_here(wanted, injected)
            found = self._signature_default(wanted, statement.default)
            if found is not NOTHING:
                return found
        return _missing(wanted, statement)

    def _call_here(self, statement: FactoryStatement) -> Any:
        identity = statement.identity
        if identity not in self._values:
            kwargs = statement.constants
            for name, each in statement.statements.items():
                kwargs[name] = self._here(name, each)
            self._values[identity] = self._enter_here(statement.call(**kwargs))
        return self._values[identity]

    def _enter_here(self, made: Any) -> Any:
        """What turns out to be asynchronous (a plain function may return anything) is opened and closed on the loop,
        while this thread waits."""
        stack = self._thread_stack
        assert stack is not None
        if hasattr(made, "__aenter__"):
            value = self._on_the_loop(made.__aenter__)
            stack.push(partial(self._on_the_loop, made.__aexit__))
            return value
        if hasattr(made, "__enter__"):
            return stack.enter_context(made)
        return self._on_the_loop(lambda: made) if hasattr(made, "__await__") else made

    def _on_the_loop(self, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        async def call() -> Any:
            return await function(*args)

        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    # --- both ------------------------------------------------------------------------------------------------------

    def _raise_failures(self) -> None:
        if self._failures:
            names = ", ".join(self._failures)
            raise ExceptionGroup(
                f"Failed to resolve dependencies for parameter(s): {names}", list(self._failures.values())
            )


def _missing(wanted: str, statement: ArgumentStatement) -> None:
    if not statement.optional:
        raise KeyError(wanted)


def take_intentions(opening: Opening) -> None:
    """What the task states about what follows a run, for one that does not take place. What was taken already stays."""
    execution, task = opening.execution, opening.task
    passed = dict(zip(task.given(len(execution.args)), execution.args, strict=False)) | execution.kwargs
    for name, statement in task.injected.items():
        taken = opening.retry if isinstance(statement, Retry) else opening.perpetual
        if name in passed:
            opening.retry = passed[name] if isinstance(passed[name], Retry) else opening.retry
        elif isinstance(statement, Retry | Perpetual) and taken is None:
            opener = opener_of(statement)
            assert opener is not None
            opener(opening, statement, False)


def is_plain(task: Task) -> bool:
    """Whether everything that the task is given can simply be handed to it, without opening or waiting."""
    injected = task.injected
    # Most have none, and this is asked for every run: a generator over nothing is dearer than the question.
    return not task.wrapped and (
        not injected or all(opener_of(statement) is not None for statement in injected.values())
    )


def hand_over(opening: Opening) -> dict[str, Any]:
    """The keyword arguments of a plain task: the same as `open`, without an await."""
    execution, task = opening.execution, opening.task
    kwargs = execution.kwargs
    if not task.injected:
        return kwargs
    given = task.given(len(execution.args))
    values = dict(kwargs)
    for name, statement in task.injected.items():
        if name in kwargs or name in given:
            passed = opening.supplied.get(name)
            opening.retry = passed if isinstance(passed, Retry) else opening.retry
            continue
        opener = opener_of(statement)
        if opener is not None:
            values[name] = opener(opening, statement, not task.is_async)
    return values
