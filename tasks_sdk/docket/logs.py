"""Log lines on standard error, in one of three forms, for every process of ours.

Loggers form one tree, `docket.…`. The handler sits on the root, so that what tasks log with loggers of their own
comes out beside it.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal, cast, get_args

LogFormat = Literal["plain", "rich", "json"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

# Chatter of libraries at INFO and DEBUG that no operator of ours asked for.
_QUIETENED = ("asyncio", "concurrent", "redis")


def default_format() -> LogFormat:
    """`rich` for a person at a terminal, `plain` for a file or a pipe."""
    # Python has no standard error where the process was started without one.
    return "rich" if sys.stderr is not None and sys.stderr.isatty() else "plain"  # pyright: ignore[reportUnnecessaryComparison]


def checked_format(text: str) -> LogFormat:
    if text not in get_args(LogFormat):
        raise ValueError(f"expected log_format to be plain, rich or json, got {text!r}")
    return cast(LogFormat, text)


def checked_level(text: str) -> LogLevel:
    if text.upper() not in get_args(LogLevel):
        raise ValueError(f"expected log_level to be one of {', '.join(get_args(LogLevel))}, got {text!r}")
    return cast(LogLevel, text.upper())


def configure(format: LogFormat | None = None, level: LogLevel = "INFO") -> None:
    """Everything logged from now on goes to standard error in this form; a second call replaces the first."""
    handler = _handler(format or default_format())
    root = logging.getLogger()
    for earlier in list(root.handlers):
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _QUIETENED:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))


def _handler(format: LogFormat) -> logging.Handler:
    if format == "rich":
        # Imported when wanted: it is the heaviest import of a small process, and servers log plain or json.
        from rich.console import Console
        from rich.logging import RichHandler

        rich = RichHandler(
            console=Console(stderr=True), show_path=False, rich_tracebacks=False, log_time_format="%X"
        )
        rich.setFormatter(logging.Formatter("%(message)s"))
        return rich
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JSONLines() if format == "json" else _PlainLines())
    return handler


class _PlainLines(logging.Formatter):
    """`2026-01-02T03:04:05.678Z INFO [1234] docket.worker: message`"""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s [%(process)d] %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return _moment(record)


class _JSONLines(logging.Formatter):
    """One object a line: timestamp, level, logger, message, and whatever was passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "timestamp": _moment(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and name not in line:
                line[name] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        try:
            return json.dumps(line, default=_shown, ensure_ascii=False)
        except (
            TypeError,
            ValueError,
            RecursionError,
        ):  # keys that JSON does not know, or a value that contains itself
            shown = {
                name: each if isinstance(each, str | int) else _shown(each) for name, each in line.items()
            }
            return json.dumps(shown, ensure_ascii=False)


def _moment(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shown(value: object) -> str:
    """A log line is never lost because something in it cannot be shown."""
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__} whose str() raised {type(error).__name__}>"
