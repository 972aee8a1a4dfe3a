"""Durations as people write them: `30s`, `250ms`, `1.5s`, `5m`, `1h30m`, `mm:ss`, or plain seconds."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000}
_MICROSECOND = timedelta(microseconds=1)
_NUMBER = r"\d+(?:\.\d+)?"

# Each unit at most once and from the largest down: `5s5s` or `30s1h` is more likely a slip than a wish.
_WITH_UNITS = re.compile("".join(rf"(?:(?P<{unit}>{_NUMBER}){unit})?" for unit in _UNITS))
_PLAIN = re.compile(_NUMBER)
_CLOCK = re.compile(r"(?:(?P<h>\d+):)?(?P<m>\d{1,2}):(?P<s>\d{1,2}(?:\.\d+)?)")


def parse(text: str) -> timedelta:
    """The duration that the text names, exact to the microsecond.

    Raises ValueError with a sentence when it names none; the caller may add which option it came from.
    """
    wanted = text.strip().lower().replace(" ", "")
    if _PLAIN.fullmatch(wanted):
        return _sum(text, {"s": wanted})
    if clock := _CLOCK.fullmatch(wanted):
        parts = {unit: number for unit, number in clock.groupdict().items() if number}
        if float(parts["s"]) >= 60 or ("h" in parts and int(parts["m"]) >= 60):
            raise ValueError(f"expected minutes and seconds below 60 in a duration like 05:30, got {text!r}")
        return _sum(text, parts)
    if wanted and (units := _WITH_UNITS.fullmatch(wanted)):
        return _sum(text, {unit: number for unit, number in units.groupdict().items() if number})
    raise ValueError(
        f"expected a duration such as 30s, 250ms, 1.5s, 5m, 1h30m, 05:30 or plain seconds, got {text!r}"
    )


def positive(span: object, name: str) -> timedelta:
    """TypeError or ValueError with a sentence if it is no duration, or not positive."""
    checked = a_span(span, name)
    if checked <= timedelta(0):
        raise ValueError(f"expected {name} to be positive, got {span}")
    return checked


def zero_or_more(span: object, name: str) -> timedelta:
    """The same, but it may be nothing."""
    checked = a_span(span, name)
    if checked < timedelta(0):
        raise ValueError(f"expected {name} to be zero or more, got {span}")
    return checked


def a_span(span: object, name: str) -> timedelta:
    """TypeError with a sentence if it is no duration; it may be negative."""
    if not isinstance(span, timedelta):
        raise TypeError(f"expected {name} to be a timedelta, got {span!r}")
    return span


def describe(duration: timedelta) -> str:
    """The shortest such text; `parse` reads it back as the same duration (if it is not negative)."""
    left = duration // _MICROSECOND
    if left < 0:
        return f"-{describe(-duration)}"
    if 0 < left < _UNITS["s"] and left % _UNITS["ms"] == 0:
        return f"{left // _UNITS['ms']}ms"
    words: list[str] = []
    for unit in ("d", "h", "m"):
        count, left = divmod(left, _UNITS[unit])
        if count:
            words.append(f"{count}{unit}")
    if left or not words:
        whole, fraction = divmod(left, _UNITS["s"])
        words.append(f"{whole}.{fraction:06d}".rstrip("0").rstrip(".") + "s")
    return "".join(words)


def _sum(text: str, parts: dict[str, str]) -> timedelta:
    try:
        return sum(
            (timedelta(microseconds=float(n) * _UNITS[unit]) for unit, n in parts.items()), timedelta(0)
        )
    except OverflowError:
        raise ValueError(f"expected a duration that a clock can hold, got {text!r}") from None
