"""One worker as the main program of a process: its signals, its exit code."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, cast

import anyio

from docket.docket import Docket
from docket.errors import DocketError
from docket.registry import TaskFunction, plan
from docket.resultstorage import refuse_other_than_storage
from docket.settings import DocketSettings
from docket_runtime import outcomes
from docket_runtime.afterwards import Bequest, as_text, become
from docket_runtime.dumping import dump_on_request
from docket_runtime.health import Health
from docket_runtime.ports import CannotListen, healthcheck_server, metrics_server
from docket_runtime.settings import WorkerSettings
from docket_runtime.surroundings import Surroundings
from docket_runtime.telemetry import flush
from docket_runtime.worker import Worker

_LOG = logging.getLogger("docket.worker")

CLEAN, BUG, USAGE, IMPORT_FAILED, HANDED_BACK = 0, 1, 2, 3, 7


_FOLDER = os.getcwd()
"""Where the program was started, wherever tasks go."""


class ImportFailed(Exception):
    """The task modules cannot be imported; the cause says why."""


def run_worker(
    docket: DocketSettings, worker: WorkerSettings, surroundings: Surroundings | None = None
) -> int:
    """Runs one worker until it is told to leave; returns the exit code that its process should have.

    0 clean, 1 a bug, 2 a setting that makes no sense, 3 the tasks could not be imported, 7 the drain's deadline passed
    and work was handed back, 128 + the signal's number if it was told to stop at once.
    """
    surroundings = surroundings or Surroundings()
    dump_on_request(surroundings.stacks)
    backend_options = {"use_uvloop": True} if sys.platform != "win32" else {}
    try:
        with metrics_server(worker.metrics_host, worker.metrics_port) as port:
            _tell_address("metrics", worker.metrics_host, port, "/metrics")
            return anyio.run(
                functools.partial(_serve, docket, worker, surroundings),
                backend_options=backend_options,
            )
    except ImportFailed as error:
        traceback.print_exception(error.__cause__ or error)
        return IMPORT_FAILED
    except (DocketError, ValueError, ImportError, CannotListen) as error:
        _LOG.error("%s", error)
        return USAGE
    except Exception:
        _LOG.exception("the worker failed")
        return BUG
    finally:
        flush()


def _tell_address(what: str, host: str, port: int | None, path: str = "/") -> None:
    if port is not None:
        shown = f"[{host}]" if ":" in host else host
        _LOG.info("%s: http://%s:%d%s", what, shown, port, path)


def _register(docket: Docket, tasks: tuple[str, ...]) -> None:
    for reference in tasks:
        try:
            docket.register_collection(reference)
        except BaseException as error:
            raise ImportFailed(reference) from error


async def _serve(settings: DocketSettings, options: WorkerSettings, surroundings: Surroundings) -> int:
    storage = None if options.result_storage is None else await _load_storage(options.result_storage)
    async with Docket.from_settings(settings, result_storage=storage) as docket:
        _register(docket, options.tasks)
        worker = Worker(
            docket,
            name=options.name,
            concurrency=options.concurrency,
            redelivery_timeout=options.redelivery_timeout,
            reconnection_delay=options.reconnection_delay,
            minimum_check_interval=options.minimum_check_interval,
            scheduling_resolution=options.scheduling_resolution,
            schedule_automatic_tasks=options.schedule_automatic_tasks,
            fallback_task=None if options.fallback_task is None else _load_task(options.fallback_task),
            message_batch=options.message_batch,
            threads=options.threads,
            drain_timeout=options.drain_timeout,
            max_crashes=options.max_crashes,
            dependencies=None if options.dependencies is None else _load_dependencies(options.dependencies),
            enable_internal_instrumentation=options.enable_internal_instrumentation,
            surroundings=surroundings,
            partitions=options.serve_partitions,
        )
        async with worker:
            await _run(worker, options)
            if worker.drain.left_in_threads:
                # Under a supervisor the steward hands over what the threads still run, once they are really dead.
                if not surroundings.vouched():
                    _become_what_follows(settings, worker)
                _leave_now(HANDED_BACK)
        return HANDED_BACK if worker.drain.passed_deadline else CLEAN


async def _run(worker: Worker, options: WorkerSettings) -> None:
    health = Health(worker)
    watch = _Watch(worker)
    watch.begin()
    turning = asyncio.create_task(health.watch()) if options.healthcheck_port is not None else None
    try:
        with healthcheck_server(options.healthcheck_host, options.healthcheck_port, health.checks) as port:
            _tell_address("health", options.healthcheck_host, port)
            if worker.surroundings.quarantine:
                await worker.run_until_empty()
            elif options.until_finished:
                await worker.run_until_finished()
            else:
                await worker.run_forever()
    finally:
        watch.end()
        if turning is not None:
            turning.cancel()


def _load_dependencies(reference: str) -> Mapping[str, Any] | Sequence[Any]:
    """What is opened around every task: a list, a mapping, or a single one."""
    module, _, attribute = reference.partition(":")
    try:
        found = getattr(import_module(module), attribute)
        return cast("Any", found) if isinstance(found, Mapping | Sequence) else [found]
    except BaseException as error:
        raise ImportFailed(reference) from error


def _load_task(reference: str) -> TaskFunction:
    module, _, attribute = reference.partition(":")
    try:
        function = getattr(import_module(module), attribute)
        plan(function, attribute)
        return function
    except BaseException as error:
        raise ImportFailed(reference) from error


async def _load_storage(reference: str) -> Any:
    """The storage itself, or what a function made of it here, after the fork."""
    module, _, attribute = reference.partition(":")
    try:
        found = getattr(import_module(module), attribute)
        if callable(found) and (inspect.isclass(found) or not hasattr(found, "put")):
            found = found()
        storage = await found if inspect.isawaitable(found) else found
        refuse_other_than_storage(storage)
        return storage
    except BaseException as error:
        raise ImportFailed(reference) from error


def _become_what_follows(settings: DocketSettings, worker: Worker) -> None:
    """Does not return: the threads end here and now, and then what they ran is settled or handed back."""
    late = [flight for flight in worker.claims if flight.cannot_be_ended]
    bequest = Bequest(
        docket=settings.name,
        url=settings.url,
        worker_id=worker.worker_id,
        max_crashes=worker.settings.max_crashes,
        verdicts=[
            as_text(
                flight.desk.mark + flight.claimed.entry,
                outcomes.when_too_late(
                    *flight.if_too_late,
                    flight.allowed,
                    outcomes.wrapping(worker.docket.core.door, flight.claimed),
                ),
            )
            for flight in late
        ],
        anew=list(worker.surroundings.anew) if worker.begins_anew else [],
        folder=_FOLDER,
        code=HANDED_BACK,
        log_level=logging.getLogger().level,
        partitions=settings.partitions,
        served=[partition.number for partition in worker.serves],
    )
    _flush()
    try:
        become(bequest)
    except OSError as error:
        _LOG.warning(
            "could not hand back what threads still run (%s): it follows when the lease lapses", error
        )


def _flush() -> None:
    flush()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()


def _leave_now(code: int) -> None:
    """A thread that does not end would keep the interpreter from ending."""
    _flush()
    os._exit(code)


class _Watch:
    """Signals and the lifeline, for as long as the worker runs."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._heard = 0
        self._signals = [
            number
            for number in (signal.SIGTERM, signal.SIGINT)
            if signal.getsignal(number) is not signal.SIG_IGN
        ]

    def begin(self) -> None:
        for number in self._signals:
            self._loop.add_signal_handler(number, self._on_signal, number)
        # CONT does nothing to a process that is not ready for it yet, so it may be sent at any moment.
        self._loop.add_signal_handler(signal.SIGCONT, lambda: self._worker.quiet.look())
        orphaned = self._worker.surroundings.orphaned
        if orphaned is not None:
            self._loop.add_reader(orphaned, self._on_orphaned, orphaned)

    def end(self) -> None:
        for number in self._signals:
            self._loop.remove_signal_handler(number)
        self._loop.remove_signal_handler(signal.SIGCONT)
        orphaned = self._worker.surroundings.orphaned
        if orphaned is not None:
            self._loop.remove_reader(orphaned)

    def _on_signal(self, number: signal.Signals) -> None:
        self._heard += 1
        self._worker.begins_anew = False
        set_from_above = self._worker.surroundings.board.drain_at
        if self._heard >= 3 and set_from_above is None:
            _LOG.warning("%s for the third time: leaving at once", number.name)
            _leave_now(128 + number)
        if self._heard == 1:
            own = self._worker.drain.in_full()
            said = "draining; once more for a short drain"
        else:
            own = self._worker.drain.in_short()
            said = "draining for 5 s at most; once more to leave at once"
        # A supervisor that has set the instant has said so itself, once for all its workers.
        _LOG.log(logging.INFO if set_from_above is None else logging.DEBUG, "%s: %s", number.name, said)
        self._worker.drain.ask(set_from_above if set_from_above is not None else own)

    def _on_orphaned(self, fd: int) -> None:
        try:
            if os.read(fd, 1):
                return
        except BlockingIOError:
            return
        self._loop.remove_reader(fd)
        _LOG.warning("the supervisor is gone: draining, then leaving")
        self._worker.drain.ask(self._worker.drain.in_full())
