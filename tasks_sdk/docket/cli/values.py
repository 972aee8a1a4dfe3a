"""Python values written as one word of a command: `type:text`."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from importlib import import_module
from typing import Any

EPILOG = (
    "Values are text, or type:text: int:5, float:1.5, bool:true, decimal.Decimal:1, datetime.timedelta:90 (seconds), "
    "datetime.datetime:2025-01-15T10:30:00+00:00. Text with a colon in it is written str:a:b; a pair for the operator "
    "between low,high: int:1,int:5."
)

_TRUTH = {"true": True, "false": False}


def parse_value(text: str | None) -> Any:
    """ValueError says what is wrong with it. Nothing given is None."""
    if text is None:
        return None
    type_name, colon, rest = text.partition(":")
    if not colon or not all(part.isidentifier() for part in type_name.split(".")):
        return text  # 12:30 and http-like things that cannot name a type are text
    return _convert(_class_named(type_name), type_name, rest)


def parse_pair(text: str | None) -> tuple[Any, Any]:
    low, comma, high = (text or "").partition(",")
    if not comma:
        raise ValueError(f"expected a pair low,high for the operator between, got {text!r}")
    return parse_value(low), parse_value(high)


def _class_named(name: str) -> type[Any]:
    module_name, _, member = name.rpartition(".")
    try:
        found = getattr(import_module(module_name or "builtins"), member)
    except (ImportError, AttributeError):
        found = None
    if not isinstance(found, type):
        raise ValueError(f"there is no type {name!r}; text with a colon in it is written str:{name}:…")
    return found


def _convert(cls: type[Any], name: str, text: str) -> Any:
    try:
        if cls is bool:
            return _TRUTH[text.lower()]
        if cls is timedelta:
            return timedelta(seconds=float(text))
        if cls in (datetime, date, time):
            return cls.fromisoformat(text)
        return cls(text)
    except (ValueError, TypeError, ArithmeticError, KeyError):
        raise ValueError(f"{text!r} is no {name}") from None
