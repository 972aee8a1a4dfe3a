"""What is left to do when a worker's threads will not end: its process becomes this program, in which they are gone.

To put another program in the place of a process ends all its threads at once. Only then is what they ran settled or
given to others, so that nothing ever runs in two places; then the process leaves, or begins anew as the same worker.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from redis.exceptions import RedisError

from docket import logs
from docket.errors import DocketError
from docket.message import name_of
from docket.settings import DocketSettings
from docket.store.ledger import Verdict
from docket.store.ledgers import AnyLedger, open_ledger
from docket_runtime.outcomes import Outcome

_LOG = logging.getLogger("docket.worker")

_PATIENCE = 30.0
"""Seconds in which Redis must answer; after that the lease lapses, and says the same later."""
_PAUSE = 0.5


@dataclass(frozen=True)
class Bequest:
    """`verdicts`: what is settled; all else that the worker held goes to others. `anew`: the command that follows,
    in this folder; empty: the process leaves with `code`."""

    docket: str
    url: str
    worker_id: str
    max_crashes: int
    verdicts: Sequence[tuple[str, str, str | int, str]]
    anew: Sequence[str]
    folder: str
    code: int
    log_level: int
    partitions: int = 1
    served: Sequence[int] | None = None


def as_text(entry: str, outcome: Outcome) -> tuple[str, str, str | int, str]:
    """As JSON can hold it."""
    a = outcome.a if isinstance(outcome.a, int) else _latin(outcome.a)
    return entry, outcome.verb, a, _latin(outcome.b)


def become(bequest: Bequest) -> NoReturn:
    """This process goes on as `main`. A file without a name hands the bequest on: its URL may hold a password."""
    with tempfile.TemporaryFile() as file:
        file.write(json.dumps(asdict(bequest)).encode())
        file.flush()
        os.set_inheritable(file.fileno(), True)
        os.execv(sys.executable, [sys.executable, "-m", __name__, str(file.fileno())])


def main(file: int) -> NoReturn:
    with open(file, "rb") as bequeathed:
        bequeathed.seek(0)
        bequest = Bequest(**json.load(bequeathed))
    logs.configure(None, logs.checked_level(logging.getLevelName(bequest.log_level)))
    try:
        asyncio.run(asyncio.wait_for(_execute(bequest), _PATIENCE))
    except (TimeoutError, RedisError, DocketError, OSError) as error:
        _LOG.warning("could not settle what was left (%s); it follows when the lease lapses", error)
    if bequest.anew:
        os.chdir(bequest.folder)
        os.execvp(bequest.anew[0], list(bequest.anew))
    sys.exit(bequest.code)


async def _execute(bequest: Bequest) -> None:
    while True:
        try:
            docket = DocketSettings(name=bequest.docket, url=bequest.url, partitions=bequest.partitions)
            async with open_ledger(docket, bequest.served) as ledger:
                await _settle(ledger, bequest)
                return
        except (RedisError, OSError) as error:
            _LOG.debug("Redis is away: %s", error)
            await asyncio.sleep(_PAUSE)


async def _settle(ledger: AnyLedger, bequest: Bequest) -> None:
    if bequest.verdicts:
        await ledger.settle(bequest.worker_id, [_verdict(*each) for each in bequest.verdicts])
        _LOG.warning("settled %d executions by their time limits", len(bequest.verdicts))
    handed = await ledger.hand_over(
        bequest.worker_id, "its worker has left", started=(), max_crashes=bequest.max_crashes
    )
    _LOG.info("worker %s has handed back %d executions", name_of(bequest.worker_id), handed.returned)


def _verdict(entry: str, verb: str, a: Any, b: str) -> Verdict:
    return entry, verb, a, b.encode("latin-1")


def _latin(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


if __name__ == "__main__":
    main(int(sys.argv[1]))
