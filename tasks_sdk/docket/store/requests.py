"""What can be asked of Redis, as data: the logic above yields requests, a skin (async or blocking) performs them."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from docket.store.scripts import Call

Argument: TypeAlias = str | bytes | int | float
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Commands:
    """Plain commands sent together; the reply is the list of their replies."""

    commands: Sequence[tuple[Argument, ...]]


@dataclass(frozen=True, slots=True)
class InTurn:
    """Calls of which the next is made while an earlier one is under way; the reply is the list of their replies."""

    calls: Iterable[Call]


@dataclass(frozen=True, slots=True)
class NextEvent:
    """Wait for a message on a channel that is subscribed to before the reply to anything asked later is read.

    The reply is the message's bytes, `None` when `timeout` seconds have passed, or `SUBSCRIBED` the first time: then
    the caller looks at the record once more, so that nothing between looking and subscribing is missed.
    """

    channels: tuple[str, ...]
    timeout: float | None


@dataclass(frozen=True, slots=True)
class Together:
    """Operations carried out at the same time; the reply is the list of what they return. All of them come to an end
    before one that failed fails the whole: what the others did stays done."""

    operations: Sequence[Operation[Any]]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What somebody asks who can wait: the reply is `None` while Redis cannot be reached."""

    request: Call | Commands


@dataclass(frozen=True, slots=True)
class Emit:
    """Something for whoever iterates over the stream; the reply is `None`, when the next one is asked for."""

    item: Any


SUBSCRIBED = object()

Request: TypeAlias = Call | Commands | InTurn | NextEvent | Together | Attempt
Operation: TypeAlias = Generator[Request, Any, T]
Stream: TypeAlias = Generator[Request | Emit, Any, T]
"""Like an operation, but it has something to tell on the way."""


def read(*command: Argument) -> Operation[Any]:
    """One plain command."""
    replies = yield Commands((command,))
    return replies[0]
