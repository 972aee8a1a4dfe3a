"""Adding, replacing, cancelling and clearing, as operations that either skin can perform."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from docket import admission, clock, strikes
from docket.execution import Disposition, ExecutionState, TaskCall, fresh_key, moment_of
from docket.payload import encodable
from docket.priorities import Priority, lane_of
from docket.registry import Registry, TaskFunction
from docket.store import scripts
from docket.store.keys import Keys
from docket.store.requests import InTurn, Operation
from docket.store.scripts import Call
from docket.strikelist import Rules, Strike, StrikeList

CHUNK = 200
"""Calls in one script: enough to make the round trip cheap, few enough not to keep Redis from others (~2 ms)."""
_REPLACED_AT_ONCE = 100
"""What is replaced is taken out of its place first, and that is the dearer half."""

_CLEARED_AT_ONCE, _PURGED_AT_ONCE = 200, 500

_MOST_BYTES = 4_000_000

_OWN_RANDOM = random.Random()
"""Numbers that tell a call from the same call sent again. Not of the `random` module: a task may seed that, and what it
adds next would be taken for what it has added before."""
os.register_at_fork(after_in_child=_OWN_RANDOM.seed)

_Batch = Sequence[tuple[TaskCall, bytes]]

_DISPOSITIONS = {
    b"scheduled": Disposition.SCHEDULED,
    b"already": Disposition.ALREADY_SCHEDULED,
    b"failed": Disposition.FAILED,
}


@dataclass(frozen=True, slots=True)
class Scheduled:
    """What came of one call. `refusal` is Redis's own sentence."""

    disposition: Disposition
    generation: int = 0
    state: ExecutionState = ExecutionState.SCHEDULED
    when: datetime | None = None
    refusal: str | None = None
    struck_by: Strike | None = None


def call_of(
    registry: Registry,
    function: TaskFunction | str,
    when: datetime | None,
    key: str | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    priority: Priority = Priority.NORMAL,
) -> TaskCall:
    """A call checked against the function's signature, where that is known (TypeError)."""
    if isinstance(function, str):
        task = registry.get(function)
        name = function
    else:
        task = registry.register(function)
        name = task.name
    if task is not None:
        task.check_call(args, kwargs)
    return TaskCall(
        name, task and task.function, args, kwargs, fresh_key() if key is None else key, when, priority
    )


def check(function: TaskFunction | str, when: datetime | None, key: str | None) -> None:
    """What is wrong before the arguments are known is said at once."""
    moment_of(when)
    if isinstance(function, str) and not function:
        raise ValueError("expected the name of a task, got ''")
    if key is not None and (not isinstance(key, str) or not key):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"expected a key of at least one character, got {key!r}")
    for text in (function, key):
        if isinstance(text, str) and encodable(text) != text:
            raise ValueError(f"expected text that UTF-8 can carry, got {text!r}")


def schedule(
    keys: Keys,
    registry: Registry,
    rules: StrikeList,
    calls: _Batch,
    ttl: timedelta,
    *,
    replace: bool = False,
    inside: tuple[str, str] | None = None,
    chunk: int = CHUNK,
) -> Operation[list[Scheduled]]:
    """Each call lies in the ledger, or its disposition says why not. `inside`: key and entry of the running execution
    that asks; from there, adding its own key schedules its successor."""
    ttl_ms = clock.to_ms(ttl)

    def asked(batch: _Batch, struck: Sequence[Strike | None], judged_by: Rules) -> Call:
        passed = [each for each, strike in zip(batch, struck, strict=True) if strike is None]
        rows = (_row(registry, call, body, ttl_ms, replace, inside) for call, body in passed)
        return scripts.schedule(keys, rows, judged_by.version)

    batches = list(_batches(calls, min(chunk, _REPLACED_AT_ONCE) if replace else chunk))
    outcomes: list[list[Scheduled]] = [[] for _ in batches]
    waiting: Sequence[int] = range(len(batches))
    while waiting:
        judged_by = rules.rules
        struck = {
            number: [_refused_by(rules, judged_by, registry, call) for call, _ in batches[number]]
            for number in waiting
        }
        requests = (asked(batches[number], struck[number], judged_by) for number in waiting)
        replies = [(yield next(requests))] if len(waiting) == 1 else (yield InTurn(requests))
        stale: list[int] = []
        for number, reply in zip(waiting, replies, strict=True):
            if reply == [strikes.STALE]:
                stale.append(number)
                continue
            scheduled = iter(reply)
            outcomes[number] = [
                _parse(next(scheduled)) if strike is None else _refused(strike) for strike in struck[number]
            ]
        waiting = stale
        if waiting:
            yield from strikes.load(keys, rules)
    return [each for batch in outcomes for each in batch]


def _row(
    registry: Registry,
    call: TaskCall,
    body: bytes,
    ttl_ms: int,
    replace: bool,
    inside: tuple[str, str] | None,
) -> scripts.Row:
    return (
        "replace" if replace else "seed" if call.automatic else "add",
        call.key,
        call.function_name,
        body,
        moment_of(call.when),
        ttl_ms,
        inside[1] if inside is not None and inside[0] == call.key else "",
        _OWN_RANDOM.getrandbits(47),
        _limits_of(registry, call),
        lane_of(call.priority),
    )


def _limits_of(registry: Registry, call: TaskCall) -> str:
    known = admission.known_to_the_caller(registry.get(call.function_name), call.args, call.kwargs)
    return admission.in_words(known) if known else ""


def _refused_by(rules: StrikeList, judged_by: Rules, registry: Registry, call: TaskCall) -> Strike | None:
    """What only has to be held is scheduled like everything else: it is held when its turn comes."""
    name = call.function_name
    if not judged_by.concern(name):
        return None
    strike = rules.match(name, call.args, call.kwargs, registry.get(name), judged_by)
    return None if strike is None or strike.hold else strike


def _refused(strike: Strike) -> Scheduled:
    return Scheduled(Disposition.STRUCK, state=ExecutionState.CANCELLED, struck_by=strike)


def _batches(calls: _Batch, most: int) -> Iterator[_Batch]:
    """Bounded by number and by size: Redis serves nobody else while it takes one in."""
    batch: list[tuple[TaskCall, bytes]] = []
    size = 0
    for call, body in calls:
        size += len(body)
        if batch and (len(batch) >= most or size > _MOST_BYTES):
            yield batch
            batch, size = [], len(body)
        batch.append((call, body))
    if batch:
        yield batch


def _parse(reply: Sequence[bytes]) -> Scheduled:
    disposition = _DISPOSITIONS[reply[0]]
    if disposition is Disposition.FAILED:
        return Scheduled(disposition, refusal=reply[1].decode(errors="replace"))
    return Scheduled(
        disposition,
        int(reply[1] or 0),
        ExecutionState(reply[2].decode()),
        clock.from_us(int(reply[3])) if reply[3] else None,
    )


def cancel(keys: Keys, key: str) -> Operation[str | None]:
    """Returns the state before."""
    state = yield scripts.cancel(keys, key)
    return None if state is None else state.decode()


def clear(keys: Keys) -> Operation[int]:
    """Everything that waits is cancelled, in batches; returns how many."""
    total = 0
    for _ in range(
        2
    ):  # once more: what a worker moved meanwhile, from where nobody had looked to where somebody had
        round, cursor = 0, scripts.CLEAR_FROM
        while cursor:
            cleared, following = yield scripts.clear(keys, cursor, _CLEARED_AT_ONCE)
            round += cleared
            cursor = following.decode()
        total += round
        if not round:
            break
    return total


def retry_dead(keys: Keys, key: str) -> Operation[bool]:
    reply = yield scripts.retry_dead(keys, key)
    return bool(reply)


def purge_dead(keys: Keys, dead: Sequence[str] | None) -> Operation[int]:
    """These, or all."""
    total = 0
    if dead is not None:
        for start in range(0, len(dead), _PURGED_AT_ONCE):
            total += yield scripts.purge_dead(keys, dead[start : start + _PURGED_AT_ONCE])
        return total
    while True:
        purged = yield scripts.purge_dead(keys, most=_PURGED_AT_ONCE)
        total += purged
        if purged < _PURGED_AT_ONCE:
            return total
