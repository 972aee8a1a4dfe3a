"""A process that has imported everything once, so that workers forked from it are up at once and share its memory."""

from __future__ import annotations

import importlib
import logging
import select
import signal
from contextlib import suppress
from functools import partial

from docket_supervisor import titles
from docket_supervisor.channel import Channel
from docket_supervisor.child import Inheritance, be_worker
from docket_supervisor.codes import ExitCode
from docket_supervisor.doctor import REFUSED, Doctor, explained
from docket_supervisor.forking import die_with_parent, fork_for_reaper
from docket_supervisor.loading import LoadFailed, find_setup, load
from docket_supervisor.messages import Forked, ForkWorker, Imported, ImportFailed
from docket_supervisor.sharing import share_memory

logger = logging.getLogger("docket.template")

# What workers import lazily or by name would otherwise be loaded again in each of them.
LIBRARIES = (
    "anyio",
    "anyio._backends._asyncio",
    "anyio.from_thread",
    "anyio.to_thread",
    "cloudpickle",
    "docket.store.ledgers",
    "docket_runtime.surroundings",
    "email.parser",
    "encodings.ascii",
    "encodings.idna",
    "hiredis",
    "importlib.readers",
    "redis.asyncio",
    "uvloop",
)


def run_template(inherited: Inheritance, channel: Channel, generation: int) -> int:
    """Imports, says so, and forks a worker for every request until the supervisor is gone."""
    die_with_parent()
    if inherited.lifeline.severed:
        return ExitCode.CLEAN
    titles.template(inherited.settings.docket.name)
    # A TERM sent to the whole process group is not for us; the supervisor ends us by closing the channel. No SIG_IGN:
    # what is ignored is inherited by every program that a task starts.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    inherited.metrics.adopt(f"template-{generation}")
    # After the fork only, like every room of the runtime.
    from docket_runtime.dumping import dump_on_request

    dump_on_request(inherited.spool.file(inherited.spool.template))
    try:
        with Doctor() as doctor:
            collections = load(inherited.settings.worker.tasks, inherited.settings.app_dir)
            find_setup(inherited.settings.worker_setup)
    except LoadFailed as failure:
        channel.send(ImportFailed(str(failure)))
        return ExitCode.IMPORT
    if findings := doctor.findings():
        if inherited.settings.strict_fork:
            channel.send(ImportFailed(f"{explained(findings)}\n{REFUSED}", refused=True))
            return ExitCode.USAGE
        logger.warning("%s", explained(findings))
    preload(inherited.run_worker)
    share_memory(inherited.settings, inherited.run_worker)
    channel.send(Imported(collections))
    return _serve(inherited, channel, generation)


def _serve(inherited: Inheritance, channel: Channel, generation: int) -> int:
    readable = select.poll()
    readable.register(channel, select.POLLIN)
    while not channel.ended:
        readable.poll()
        for message in channel.receive():
            if isinstance(message, ForkWorker):
                channel.send(Forked(message.seat, _fork(inherited, channel, generation, message)))
    return ExitCode.CLEAN


def _fork(inherited: Inheritance, channel: Channel, generation: int, wanted: ForkWorker) -> int:
    main = partial(be_worker, inherited, wanted.seat, wanted.slot, generation, quarantine=wanted.quarantine)
    try:
        return fork_for_reaper(main, closing=(channel,))
    except OSError as error:
        logger.warning("could not fork a worker for seat %d: %s", wanted.seat, error)
        return 0


def preload(run_worker: str) -> None:
    """Everything that a worker will import is imported."""
    for name in (run_worker.partition(":")[0], *LIBRARIES):
        # Not all of them are there on every platform; who needs one that is missing will say so.
        with suppress(ImportError):
            importlib.import_module(name)
    importlib.import_module("docket.store.scripts").prepare()  # they are the same for everybody
