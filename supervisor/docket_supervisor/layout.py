"""What two versions of docket must have in common, for one to go on with the processes of the other."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import fields
from types import ModuleType
from typing import cast

from docket_supervisor import board, bulletin, messages, tally
from docket_supervisor.estate import Estate, Guest, Occupant, Reception
from docket_supervisor.settings import SupervisorSettings


def layout(settings: SupervisorSettings) -> str:
    """Equal for two programs that write the same shared memory alike, say the same things to each other and leave
    the same things behind.

    Made from the constants themselves, for a version number that somebody must remember to raise would be wrong one
    day. Rather once too often different: then a restart is needed, which always is right.
    """
    facts = [
        *(_constants(module) for module in (board, bulletin, tally)),
        [
            (kind, [field.name for field in fields(message)])
            for kind, message in sorted(messages.KINDS.items())
        ],
        [
            (part.__name__, [(field.name, field.type) for field in fields(part)])
            for part in (Estate, Guest, Occupant, Reception)
        ],
        [
            settings.docket.name,
            settings.docket.partitions,
            settings.worker.serve_partitions,
            settings.seats,
            settings.processes,
            settings.most,
            settings.worker.concurrency,
        ],
    ]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _constants(module: ModuleType) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in sorted(vars(module).items()):
        if name.startswith("__"):
            continue
        if isinstance(value, type) and value.__module__ == module.__name__:
            found += [(f"{name}.{inner}", _plain(part)) for inner, part in sorted(vars(value).items())]
        else:
            found.append((name, _plain(value)))
    return [(name, text) for name, text in found if text]


def _plain(value: object) -> str:
    """`""` for what says nothing about places in memory."""
    match value:
        case struct.Struct():
            return value.format
        case int() | float():
            return repr(value)
        case tuple():
            return repr(cast("tuple[object, ...]", value))
        case _ if "_offset" in getattr(value, "__dict__", {}):
            return repr(sorted(vars(value).items()))
        case _:
            return ""
