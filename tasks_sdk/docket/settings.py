"""Where a docket is and how long it keeps what has ended: validated once, here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from docket.durations import positive, zero_or_more

DEFAULT_NAME = "docket"
DEFAULT_URL = "redis://localhost:6379/0"
SERIALIZERS = ("pickle", "json")
MOST_PARTITIONS = 64
"""A worker that serves them all has a few connections for each."""

SIGNING_KEYS_VARIABLE = "DOCKET_SIGNING_KEYS"
SERIALIZER_VARIABLE = "DOCKET_SERIALIZER"

SigningKeys = Iterable[str | bytes] | str | bytes
"""Text is what the variable holds: several keys are separated by commas."""


def partitions_in(text: str) -> tuple[int, ...]:
    """The numbers in `0,2`. ValueError if it is nothing like that."""
    try:
        return tuple(int(each) for each in text.split(","))
    except ValueError:
        raise ValueError(f"expected numbers of partitions, separated by commas, got {text!r}") from None


def refuse_strangers(served: Sequence[int] | None, partitions: int) -> None:
    """ValueError if a docket with so many partitions has not all that are to be served."""
    if served is None:
        return
    if not served or not all(0 <= number < partitions for number in served):
        said = ", ".join(map(str, served)) or "none"
        raise ValueError(
            f"expected the partitions to serve to be among 0 to {partitions - 1}, since the docket has {partitions}, "
            f"got {said}"
        )


@dataclass(frozen=True)
class DocketSettings:
    """Everything a process must know to open the same docket as another one.

    `signing_keys` and `serializer`: None means what DOCKET_SIGNING_KEYS and DOCKET_SERIALIZER say, so that no program
    of a service can forget them; an empty list means no keys. Neither keys nor the URL are in its `repr`.
    """

    name: str = DEFAULT_NAME
    url: str = field(default=DEFAULT_URL, repr=False)
    heartbeat_interval: timedelta = timedelta(seconds=2)
    missed_heartbeats: int = 5
    execution_ttl: timedelta = timedelta(minutes=15)
    enable_internal_instrumentation: bool = False
    signing_keys: SigningKeys | None = field(default=None, repr=False)
    serializer: str | None = None
    partitions: int = 1

    def __post_init__(self) -> None:
        keys = os.environ.get(SIGNING_KEYS_VARIABLE, "") if self.signing_keys is None else self.signing_keys
        object.__setattr__(self, "signing_keys", _keys(keys))
        serializer = self.serializer
        if serializer is None:
            serializer = os.environ.get(SERIALIZER_VARIABLE, "").strip() or SERIALIZERS[0]
        if serializer not in SERIALIZERS:
            raise ValueError(f"expected serializer to be pickle or json, got {serializer!r}")
        object.__setattr__(self, "serializer", serializer)
        if not self.name:
            raise ValueError("expected the docket's name to have at least one character, got ''")
        positive(self.heartbeat_interval, "heartbeat_interval")
        if self.missed_heartbeats < 1:
            raise ValueError(f"expected missed_heartbeats to be at least 1, got {self.missed_heartbeats}")
        zero_or_more(self.execution_ttl, "execution_ttl")
        if not 1 <= self.partitions <= MOST_PARTITIONS:
            raise ValueError(
                f"expected partitions to be between 1 and {MOST_PARTITIONS}, got {self.partitions}"
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> DocketSettings:
        """`DOCKET_NAME`, `DOCKET_URL` and `DOCKET_PARTITIONS`, or the defaults."""
        values = os.environ if environment is None else environment
        return cls(
            name=values.get("DOCKET_NAME", DEFAULT_NAME),
            url=values.get("DOCKET_URL", DEFAULT_URL),
            partitions=int(values.get("DOCKET_PARTITIONS") or 1),
        )

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The signing keys: the first signs, all are accepted."""
        return _keys(self.signing_keys or ())


def _keys(given: SigningKeys) -> tuple[bytes, ...]:
    """Errors never show what was given."""
    if isinstance(given, bytes):
        given = (given,)
    elif isinstance(given, str):
        given = [part.strip() for part in given.split(",") if part.strip()]
    found: list[bytes] = []
    for key in given:
        if not isinstance(key, str | bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"expected signing keys of text or bytes, got a {type(key).__name__}")
        if not key:
            raise ValueError("expected each signing key to have at least one character, got an empty one")
        found.append(key.encode("utf-8", "surrogateescape") if isinstance(key, str) else key)
    return tuple(found)
