"""In which place of the worker a piece of code is running, for the stacks that others take of it."""

from __future__ import annotations

from contextvars import ContextVar

current: ContextVar[int | None] = ContextVar("docket.place", default=None)
"""Inherited by the asyncio tasks that an execution starts."""
