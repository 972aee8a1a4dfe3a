"""What is told to OpenTelemetry, if it is installed and somebody has configured where that goes; else nothing at all.

Nothing here loads it. Whoever configures a provider has loaded it, so without it among the loaded modules there is
none: that look, and no more, is what a call costs then. The providers that come with its API only stand for a real one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

from docket.propagation import message_setter, packed

Attributes = Mapping[str, str | int | bool]

NOTHING: AbstractContextManager[None] = nullcontext()

PRODUCERS = frozenset({"add", "replace", "add_many", "replace_many"})


_NAMED = not os.environ.keys().isdisjoint({"OTEL_PYTHON_TRACER_PROVIDER", "OTEL_PYTHON_METER_PROVIDER"})
"""The environment says which provider there is to be."""


def tracing() -> bool:
    """Somebody wants traces."""
    api = sys.modules.get("opentelemetry.trace")
    return api is not None and _is_real(api.get_tracer_provider, "opentelemetry.trace", "_TRACER_PROVIDER")


def metering() -> bool:
    """Somebody wants metrics."""
    api = sys.modules.get("opentelemetry.metrics")
    return api is not None and _is_real(api.get_meter_provider, "opentelemetry.metrics", "_METER_PROVIDER")


def _is_real(ask: Any, api: str, kept_as: str) -> bool:
    """While there is none, the API looks into the environment each time it is asked: that would cost more than all else
    that an `add` does for telemetry. So before it is asked, it is looked up where that function keeps what is set."""
    if getattr(ask, "__globals__", {}).get(kept_as, ask) is None and not _NAMED:
        return False
    return not type(ask()).__module__.startswith(api)


def instruments() -> Any:
    return import_module("docket.instruments")


def span(verb: str, attributes: Attributes) -> AbstractContextManager[Any]:
    """What a client does, as the current span."""
    trace = sys.modules["opentelemetry.trace"]
    kind = trace.SpanKind.PRODUCER if verb in PRODUCERS else trace.SpanKind.CLIENT
    return trace.get_tracer("docket").start_as_current_span(
        f"docket.{verb}", kind=kind, attributes=attributes
    )


def header() -> bytes:
    """The current trace, to be put in front of a call's arguments; empty if there is none."""
    if not tracing():
        return b""
    carrier: dict[bytes, bytes] = {}
    import_module("opentelemetry.propagate").inject(carrier, setter=message_setter)
    return packed(carrier)


def internal(traced: bool) -> AbstractContextManager[Any]:
    """Around docket's own talk with Redis: instrumentations of other libraries (redis-py's) leave it alone, unless it
    is to be `traced`."""
    utilities = None if traced else sys.modules.get("opentelemetry.instrumentation.utils")
    return NOTHING if utilities is None else utilities.suppress_instrumentation()


def count_scheduled(docket: str, tasks: Sequence[str], struck: Sequence[str], *, replace: bool) -> None:
    """These calls have been scheduled, and those refused by a strike."""
    if not metering():
        return
    known = instruments()
    verb = known.TASKS_REPLACED if replace else known.TASKS_ADDED
    for names, counters in ((tasks, (verb, known.TASKS_SCHEDULED)), (struck, (known.TASKS_STRICKEN,))):
        for name in set(names):
            labels = {"docket.name": docket, "docket.task": name}
            for counter in counters:
                counter.add(names.count(name), labels)


def count_cancelled(docket: str, was: str | None) -> None:
    if was in ("scheduled", "queued", "running") and metering():
        instruments().TASKS_CANCELLED.add(1, {"docket.name": docket})


def count_strikes(docket: str, known: int, counted: int) -> int:
    """So many strikes are known, of which some are counted already; returns how many are then."""
    if known != counted:
        instruments().STRIKES_IN_EFFECT.add(known - counted, {"docket.name": docket})
    return known
