"""The trace that a call belongs to, as it travels in the record: names and values, in front of the arguments."""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from typing import Any

Message = Mapping[bytes, bytes]


class MessageGetter:
    """How a propagator of OpenTelemetry reads what travels."""

    def get(self, carrier: Message, key: str) -> list[str] | None:
        value = carrier.get(key.encode())
        return None if value is None else [value.decode(errors="replace")]

    def keys(self, carrier: Message) -> list[str]:
        return [key.decode(errors="replace") for key in carrier]


class MessageSetter:
    """How a propagator of OpenTelemetry writes it."""

    def set(self, carrier: MutableMapping[bytes, bytes], key: str, value: str) -> None:
        carrier[key.encode()] = value.encode()


message_getter = MessageGetter()
message_setter = MessageSetter()


def packed(carrier: Message) -> bytes:
    """Empty, if there is nothing to carry."""
    texts = {key.decode(): value.decode() for key, value in carrier.items()}
    return json.dumps(texts).encode() if texts else b""


def unpacked(header: bytes) -> dict[bytes, bytes]:
    """What cannot be read is no trace: the work that it stands on goes on without."""
    try:
        texts: Any = json.loads(header) if header else {}
        return {str(key).encode(): str(value).encode() for key, value in texts.items()}
    except (ValueError, AttributeError, RecursionError):
        return {}
