"""Striking and restoring in the ledger, as operations that either skin can perform.

The log holds the rules in effect and nothing else, so it is as long as they are many. Whoever schedules or claims names
the version of the rules it judges by, or is told the present one: rules are read again when they have changed, at no
other time, and nothing is judged by old ones.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from docket import payload, telemetry
from docket.errors import CannotLoad, CannotStore, Untrusted
from docket.partitions import differ
from docket.registry import TaskFunction, name_of
from docket.store import scripts
from docket.store.keys import Keys, name_behind
from docket.store.requests import Operation
from docket.strikelist import Restore, Strike, StrikeInstruction, StrikeList, Unreadable

_LOG = logging.getLogger("docket.strikes")

STALE = b"stale"

_RELEASED_AT_ONCE = 500

_SIGNED_FIELDS = (b"function", b"parameter", b"operator", b"hold")


def function_name(function: TaskFunction | str | None) -> str | None:
    return name_of(function) if callable(function) else function


def load(keys: Keys, strikes: StrikeList) -> Operation[None]:
    """The rules are known as they stand in the ledger."""
    version, entries = yield scripts.strikes(keys)
    _refuse_if_split(keys, entries)
    known = (_strike_of(entry, fields, strikes.door) for entry, fields in entries)
    strikes.load([each for each in known if each is not None], version)
    if strikes.is_counted and telemetry.metering():
        docket = name_behind(keys.prefix)
        strikes.counted = telemetry.count_strikes(docket, len(strikes.rules.strikes), strikes.counted)


def _refuse_if_split(keys: Keys, entries: Sequence[tuple[bytes, Sequence[bytes]]]) -> None:
    """Whoever takes a split docket for an undivided one reads its rules before anything that it asks for is done, and
    finds none but that it is split (`store/lua/split.lua`)."""
    for _, fields in entries:
        if len(fields) == 2 and fields[0] == b"partitions" and fields[1].isdigit():
            raise differ(name_behind(keys.prefix), int(fields[1]), 1)


def strike(keys: Keys, strikes: StrikeList, rule: Strike) -> Operation[None]:
    """From now on nothing that the rule strikes is scheduled or claimed, by anybody."""
    try:
        value = strikes.door.dump(rule.value)
    except Exception as error:  # a user's __reduce__
        raise CannotStore(
            f"cannot {strikes.door.verb} the value of the strike {rule}: {payload.describe(error)}"
        ) from error
    yield from _change(keys, strikes, rule, value)


def restore(keys: Keys, strikes: StrikeList, instruction: Restore) -> Operation[bool]:
    """What the rule held goes back in line. False if there was no such rule."""
    return (yield from _change(keys, strikes, instruction, b""))


def _change(keys: Keys, strikes: StrikeList, instruction: StrikeInstruction, value: bytes) -> Operation[bool]:
    """Which rules are about the same only Python can tell: it is tried until nobody else changes them meanwhile."""
    row: tuple[str, str, str, str, bytes] | None = None
    found = False
    if isinstance(instruction, Strike):
        about = (
            instruction.function or "",
            instruction.parameter or "",
            str(instruction.operator),
            "1" if instruction.hold else "",
        )
        row = (*about, strikes.door.sealed_value(about, value))
    while True:
        yield from load(keys, strikes)
        lifted = [each.id for each in strikes.same_as(instruction)]
        found = found or bool(lifted)  # a lost reply: then it has been lifted, and is not there any more
        reply = yield scripts.strike(keys, strikes.rules.version, lifted, row)
        if reply != STALE:
            break
    while found and (yield scripts.release(keys, _RELEASED_AT_ONCE)):
        pass
    yield from load(keys, strikes)
    return found


def _strike_of(entry: bytes, fields: Sequence[bytes], door: payload.Door) -> Strike | None:
    """None for what is no rule: whoever can write to Redis can write nonsense, and that must not stop everybody."""
    values: dict[bytes, bytes] = dict(zip(fields[::2], fields[1::2], strict=False))
    about = [values.get(field, b"").decode(errors="replace") for field in _SIGNED_FIELDS]
    value: Any
    try:
        value = door.load_value(about, values.get(b"value", b""))
    except CannotLoad as error:
        value = Unreadable(error)
        if isinstance(error, Untrusted):
            _LOG.warning("the entry %s among the strikes %s: nothing is struck by it", entry.decode(), error)
    try:
        return Strike(
            _text(values, b"function"),
            _text(values, b"parameter"),
            _text(values, b"operator") or "",
            value,
            values.get(b"hold") == b"1",
            entry.decode(),
        )
    except ValueError as error:
        _LOG.warning("the entry %s among the strikes is no rule: %s", entry.decode(), error)
        return None


def _text(values: dict[bytes, bytes], field: bytes) -> str | None:
    return values.get(field, b"").decode(errors="replace") or None
