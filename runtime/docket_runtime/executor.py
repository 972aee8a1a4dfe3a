"""One execution from claimed to outcome, verb by verb."""

from __future__ import annotations

import asyncio
import inspect
import logging
from contextvars import copy_context
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from docket import clock, payload, stacks
from docket.admission import Refusal
from docket.context import current_execution
from docket.dependencies.limits import Limit, in_order
from docket.errors import CannotLoad, CannotStore, ForcedRetry, TaskInterrupted
from docket.execution import Execution, ExecutionState
from docket.interruption import Interruption
from docket.message import Claimed
from docket.registry import Task
from docket.strikelist import Strike
from docket_runtime import outcomes, places, resolution, telemetry
from docket_runtime.admission import named
from docket_runtime.ambient import context_of
from docket_runtime.claims import Flight
from docket_runtime.keeping import keep
from docket_runtime.outcomes import Outcome
from docket_runtime.threads import raise_in_thread

if TYPE_CHECKING:
    from docket_runtime.worker import Worker

_LOG = logging.getLogger("docket.worker")


class Executor:
    """Runs flights; every way in which a body can end becomes an outcome, and none of them ends the worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def execute(self, flight: Flight) -> Outcome:
        """Raises Waits if a limit does not admit it now: then it is not ours any more."""
        claimed = flight.claimed
        if flight.stopped or flight.interrupted or self._worker.surroundings.board.standing_down:
            return outcomes.RETURNED
        flight.begun = True
        rules = flight.desk.strikes
        whole = rules.rules.whole.get(claimed.function)
        if whole is not None:
            # Before the arguments are loaded: it may be they that do the harm.
            return self._struck(claimed, whole)
        task = self._worker.registry.get(claimed.function) or self._worker.fallback
        if task is None:
            _LOG.error(
                "no task named %r is registered here; %s goes to a worker that knows it, or is set aside until one "
                "appears",
                claimed.function,
                claimed.key,
            )
            return outcomes.unknown(claimed.function)
        try:
            args, kwargs = self._worker.docket.core.door.load_arguments(
                claimed.function, claimed.key, claimed.nonce, claimed.body
            )
        except CannotLoad as error:
            _LOG.error("the arguments of %s (%s) %s; it is set aside", claimed.key, claimed.function, error)
            return outcomes.set_aside(f"its arguments {error}")
        if rules.rules.concern(claimed.function):
            strike = rules.match(claimed.function, args, kwargs, task)
            if strike is not None:
                return self._struck(claimed, strike)
        opening = resolution.Opening(
            self._worker, task, self._execution_of(claimed, args, kwargs), flight.time_out
        )
        current_execution.set(opening.execution)
        if not task.is_async:
            # Before the first await: while it waits to be admitted, or opens what is opened on the loop, others must
            # not be claimed for the same thread.
            self._worker.threads.announce(flight)
        try:
            limits = self._limits_of(task)
            if limits or claimed.admission is not None:
                refused = await self._refused(flight, opening, limits)
                if refused is not None:
                    return refused
            return await self._count_and_run(flight, opening)
        finally:
            if not task.is_async:
                self._worker.threads.done_with(flight)

    async def _count_and_run(self, flight: Flight, opening: resolution.Opening) -> Outcome:
        claimed, task, execution = flight.claimed, opening.task, opening.execution
        late = max(0, clock.now_us() - claimed.when_us) / 1e6
        flight.counted_from = clock.monotonic()
        self._worker.surroundings.board.started(claimed.function, claimed.redelivered > 0, late)
        logs = _LOG.isEnabledFor(logging.INFO)
        call = task.call_repr(claimed.key, execution.args, execution.kwargs) if logs else ""
        if logs:
            lateness = round(late, 3)
            extra = {**context_of(execution), "lateness": lateness}
            _LOG.info("↪ [%.3fs] %s", lateness, call, extra=extra)
        if self._worker.traced:
            outcome = await telemetry.traced(execution, claimed.body, lambda: self._run(flight, opening))
        else:
            outcome = await self._run(flight, opening)
        storage = self._worker.docket.core.storage
        if storage is not None:
            outcome = await keep(storage, claimed, outcome, self._wrapping(claimed))
        if logs:
            duration = round(clock.monotonic() - flight.claimed_at, 3)
            extra = {**context_of(execution), "duration": duration, "outcome": outcome.verb}
            _LOG.info("↩ [%.3fs] %s %s", duration, call, outcome.verb, extra=extra)
        return outcome

    def _wrapping(self, claimed: Claimed) -> outcomes.Wrapping:
        return outcomes.wrapping(self._worker.docket.core.door, claimed)

    def _struck(self, claimed: Claimed, strike: Strike) -> Outcome:
        telemetry.count("TASKS_STRICKEN", self._worker, claimed.function)
        what = "⏸ held" if strike.hold else "🗙 skipped"
        _LOG.info("%s %s(...){%s}: %s", what, claimed.function, claimed.key, strike.reason)
        return outcomes.struck(strike)

    def _execution_of(self, claimed: Claimed, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Execution:
        execution = Execution(
            self._worker.docket,
            claimed.key,
            claimed.function,
            clock.from_us(claimed.when_us),
            arguments=(args, kwargs),
            state=ExecutionState.RUNNING,
            generation=claimed.generation,
        )
        execution.attempt = claimed.attempt
        execution.redelivered = claimed.redelivered > 0
        execution.crashes = claimed.crashes
        execution.worker = self._worker.name
        execution.started_at = clock.now()
        execution.message_id = claimed.entry
        return execution

    def _limits_of(self, task: Task) -> tuple[Limit, ...]:
        of_every_task = self._worker.limits_of_every_task
        return in_order((*task.limits, *of_every_task)) if of_every_task else task.limits

    async def _refused(
        self, flight: Flight, opening: resolution.Opening, limits: tuple[Limit, ...]
    ) -> Outcome | None:
        """None: it may begin. Raises Waits if it stands in line."""
        claimed, execution = flight.claimed, opening.execution
        try:
            rows = await named(limits, opening.task, execution)
        except Exception as error:
            resolution.take_intentions(opening)
            return self._failed(flight, opening, error)
        try:
            answer = await self._worker.gate.admit(claimed, rows, limits)
        except asyncio.CancelledError:
            flight.desk.exchange.expect_refusal(claimed.entry)
            if flight.interrupted:
                return outcomes.RETURNED
            raise
        if isinstance(answer, Refusal):
            _LOG.info("🗙 %s(...){%s}: %s", claimed.function, claimed.key, answer.reason)
            if answer.skips:
                resolution.take_intentions(opening)
            return self._perpetuate(opening) or outcomes.cancelled(answer.reason)
        opening.limit_names = answer.names
        execution.started_at = clock.now()
        return None

    async def _run(self, flight: Flight, opening: resolution.Opening) -> Outcome:
        places.current.set(flight.place)
        try:
            # Interrupted or not: a body that came to its end has done its work.
            value = await self._opened(flight, opening)
            if flight.timed_out:
                return self._failed(flight, opening, outcomes.too_long(_allowed(opening)))
            return self._perpetuate(opening) or outcomes.completed(value, self._wrapping(flight.claimed))
        except _StoodDown:
            return outcomes.RETURNED
        except (asyncio.CancelledError, TaskInterrupted):
            if flight.timed_out and not (flight.stopped or flight.interrupted):
                return self._failed(flight, opening, outcomes.too_long(_allowed(opening)))
            return self._stopped(flight, opening)
        except BaseException as error:
            if flight.interrupted:
                return self._stopped(flight, opening)  # whatever it made of its cancellation
            if isinstance(error, ForcedRetry):
                flight.raised = True
                return self._forced_retry(flight, opening, error)
            return self._failed(flight, opening, error)

    async def _opened(self, flight: Flight, opening: resolution.Opening) -> Any:
        """The body with its dependencies open around it; they are closed whatever happens."""
        if not self._worker.around_every_task and resolution.is_plain(opening.task):
            return await self._call(flight, opening, resolution.hand_over(opening))
        try:
            kwargs = await opening.open()
        except BaseException as error:
            resolution.take_intentions(opening)  # what ends its opening half-way must not end its chain
            await opening.close(error)  # whatever they make of it: the body has not run
            raise
        try:
            value = await self._call(flight, opening, kwargs)
        except BaseException as error:
            # Whoever deals with the errors of bodies has none before it if the body has not run.
            if await opening.close(error) and opening.failure is None:
                return None
            raise
        await opening.close(None)
        return value

    async def _call(self, flight: Flight, opening: resolution.Opening, kwargs: dict[str, Any]) -> Any:
        task, args = opening.task, opening.execution.args
        board = self._worker.surroundings.board
        claimed = flight.claimed
        board.began(
            flight.place, flight.desk.mark + claimed.entry, claimed.key, claimed.function, not task.is_async
        )
        if board.standing_down:
            # Read after the board was told: whoever had this worker stand down has seen that this one has begun, or
            # has been seen here.
            raise _StoodDown
        limit = opening.time_limit
        if limit is not None and task.is_async:
            self._begin_the_limit(flight, opening)
        try:
            if task.is_async:
                value = task.function(*args, **kwargs)
            else:
                value = await self._call_in_thread(flight, opening, args, kwargs)
            if not inspect.isawaitable(value):
                return value
            if limit is not None and not task.is_async:
                limit.go_on()  # the rest of its body
            return await value
        finally:
            if limit is not None:
                limit.end()
                if flight.timed_out and flight.task is not None:
                    flight.task.uncancel()

    async def _call_in_thread(
        self, flight: Flight, opening: resolution.Opening, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        function = opening.task.function
        limit = opening.time_limit
        interruption = flight.interruption = Interruption(raise_in_thread)

        def body_begins() -> None:
            # Not on the loop: however long all threads are busy, what waits for one of them has not begun.
            self._begin_the_limit(flight, opening)

        def body_ended() -> None:
            interruption.end()  # closing is not torn apart
            if limit is not None:
                # Here as well: the loop may hear of it only after the deadline.
                limit.over()

        def call() -> Any:
            flight.awaits_thread = False  # before it looks whether it was told to end: see `Flight.stop`
            interruption.begin()
            try:
                interruption.check()
                if opening.needs_the_thread:
                    return opening.call_in_thread(kwargs, body_begins, body_ended)
                body_begins()
                return function(*args, **kwargs)
            finally:
                body_ended()

        call.__code__ = stacks.in_place(call.__code__, flight.place)
        flight.desk.claims.entered_thread(flight)
        try:
            future = self._worker.threads.run(copy_context(), call)
            # A thread cannot be taken back: the slot stays taken until the body has really ended. Only what no thread
            # has yet is cancelled here, and none will run it.
            value, error = await asyncio.shield(future)
            if error is not None:
                raise error
            return value
        finally:
            flight.desk.claims.left_thread(flight)
            self._worker.threads.done_with(flight)
            if opening.is_open:
                flight.desk.exchange.wake()  # there is a thread for another one, however long the closing takes

    def _stopped(self, flight: Flight, opening: resolution.Opening) -> Outcome:
        if flight.interrupted:
            _LOG.warning("%s was interrupted by the drain and is handed back", opening.execution.key)
            return outcomes.INTERRUPTED
        if flight.stopped:
            return outcomes.cancelled()
        # It may have awaited something that somebody else cancelled: no reason for a perpetual task to end.
        return self._perpetuate(opening) or outcomes.cancelled("its body ended itself by a cancellation")

    def _perpetuate(self, opening: resolution.Opening) -> Outcome | None:
        """What follows a perpetual task's run; None if it was the last one."""
        perpetual, execution = opening.perpetual, opening.execution
        if perpetual is None or perpetual.cancelled:
            return None
        body = b""
        if perpetual.arguments is not None:
            try:
                opening.task.check_call(*perpetual.arguments)
                door = self._worker.docket.core.door
                names = opening.task.given(len(perpetual.arguments[0]))
                body = door.dump_arguments(*perpetual.arguments, opening.task.name, names)
                if self._worker.traced:
                    body = telemetry.sent_by_this_run(body)
                body = door.sealed_call(execution.function_name, execution.key, body)
            except (TypeError, CannotStore) as error:
                _LOG.error("%s goes on with the same arguments: %s", execution.key, error)
        return outcomes.perpetuate(perpetual.due_after(_began(execution)) - clock.now(), body)

    def _forced_retry(self, flight: Flight, opening: resolution.Opening, asked: ForcedRetry) -> Outcome:
        if _pause_before_the_next(opening) is None:
            return self._failed_for_good(flight, opening, asked)
        return outcomes.retry(asked.when - clock.now())

    def _begin_the_limit(self, flight: Flight, opening: resolution.Opening) -> None:
        limit, board = opening.time_limit, self._worker.surroundings.board
        if limit is not None:
            timeout = limit.timeout
            flight.if_too_late = self._if_too_late(opening)

            def moved(deadline: float) -> None:
                flight.allowed = timeout.allowed
                board.limited(flight.place, deadline, timeout.allowed.total_seconds(), *flight.if_too_late)

            limit.begin(moved)

    def _if_too_late(self, opening: resolution.Opening) -> tuple[str, int]:
        """How it ends if its process has to be killed for its time limit: as `_failed` would decide, but said in
        advance, because then there is nobody left to decide."""
        pause = _pause_before_the_next(opening)
        if pause is not None:
            return "retry", outcomes.microseconds(pause)
        if opening.perpetual is not None:
            return "perpetuate", clock.to_us(opening.perpetual.due_after(_began(opening.execution)))
        return "failed", 0

    def _failed(self, flight: Flight, opening: resolution.Opening, error: BaseException) -> Outcome:
        flight.raised = True
        if self._worker.traced:
            telemetry.record_failure(error)
        execution = opening.execution
        pause = _pause_before_the_next(opening)
        if pause is not None and isinstance(error, Exception):
            _LOG.warning(
                "attempt %d of %s failed (%s); the next one is in %s",
                execution.attempt,
                execution.key,
                payload.describe(error),
                pause,
            )
            return outcomes.retry(pause)
        return self._failed_for_good(flight, opening, error)

    def _failed_for_good(self, flight: Flight, opening: resolution.Opening, error: BaseException) -> Outcome:
        execution = opening.execution
        if isinstance(error, Exception):
            _LOG.error("%s (%s) failed", execution.key, execution.function_name, exc_info=error)
        else:
            _LOG.error(
                "%s (%s) raised %s; only the task ends by it",
                execution.key,
                execution.function_name,
                type(error).__name__,
            )
        return self._perpetuate(opening) or outcomes.failed(error, self._wrapping(flight.claimed))


def _began(execution: Execution) -> datetime:
    """When this run began: never before it was due, whatever the clock of this machine says. Otherwise a cron task on a
    machine that is late would be due at the same moment again."""
    return max(execution.started_at or clock.now(), execution.when)


def _pause_before_the_next(opening: resolution.Opening) -> timedelta | None:
    """None: there is no attempt left."""
    retry, attempt = opening.retry, opening.execution.attempt
    if retry is None or (retry.attempts is not None and attempt >= retry.attempts):
        return None
    return retry.pause_after(attempt)


class _StoodDown(BaseException):
    """The body was not begun after all."""


def _allowed(opening: resolution.Opening) -> timedelta:
    limit = opening.time_limit
    return limit.timeout.allowed if limit is not None else timedelta(0)
