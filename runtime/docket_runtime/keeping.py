"""What an execution returned or raised goes to the result storage, if there is one, before its end is settled.

In this order, because whoever waits for the result looks for it as soon as the end is announced.
"""

from __future__ import annotations

import logging

from docket.errors import ResultStorageFailed
from docket.message import Claimed
from docket.resultstorage import ELSEWHERE, ResultStorage, name_of
from docket_runtime import outcomes
from docket_runtime.outcomes import Outcome, Wrapping

_LOG = logging.getLogger("docket.worker")


async def keep(storage: ResultStorage, claimed: Claimed, outcome: Outcome, wrapping: Wrapping) -> Outcome:
    """The outcome as it is to be settled.

    A storage that fails fails the execution, without another attempt: its side effects have happened. What says so
    is kept in Redis; so is the exception of an execution that had failed anyway.
    """
    kept = {"completed": outcome.a, "failed": outcome.b}.get(outcome.verb)
    if not isinstance(kept, bytes) or not kept or not claimed.ttl_ms:
        return outcome
    try:
        await storage.keep(name_of(claimed.key, claimed.generation, claimed.entry), kept, claimed.ttl_ms)
    except ResultStorageFailed as error:
        if outcome.verb == "failed":
            _LOG.error("the exception of %s is kept in Redis: %s", claimed.key, error)
            return outcome
        _LOG.error("the result of %s (%s) is lost: %s", claimed.key, claimed.function, error)
        return outcomes.failed(error, wrapping)
    if outcome.verb == "completed":
        return Outcome("completed", ELSEWHERE)
    return Outcome("failed", outcome.a, ELSEWHERE)
