"""The task modules are imported, or it is said in full why they could not be."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import cast

from docket_supervisor import doctor

_LONGEST = 30_000
"""Characters of an explanation: it travels in one datagram, and the end of a traceback is what tells most."""


class LoadFailed(Exception):
    """The text explains everything; there is no need to chain it."""


def load(references: Sequence[str], app_dir: str) -> int:
    """Imports every `module:collection` with the application's folder first on `sys.path`; returns how many there were.

    Raises LoadFailed, also for a module that calls `sys.exit` or a collection that is none.
    """
    folder = os.path.abspath(app_dir)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    for reference in references:
        _load(reference, folder)
    return len(references)


def _load(reference: str, folder: str) -> None:
    name, _, attribute = reference.partition(":")
    try:
        collection: object = importlib.import_module(name)
    except BaseException as error:
        told = traceback.TracebackException(type(error), error, _theirs(error.__traceback__))
        _leave_us_out(told)
        text = "".join(told.format())
        raise LoadFailed(
            f"could not import {name} (for {reference}, from {folder}):\n{text[-_LONGEST:]}"
        ) from None
    try:
        collection = getattr(collection, attribute)
    except AttributeError as error:
        raise LoadFailed(f"could not find {reference}: {error}") from None
    if not isinstance(collection, Iterable) or isinstance(collection, str):
        raise LoadFailed(f"expected {reference} to be a list of functions, got {type(collection).__name__}")
    for member in cast("Iterable[object]", collection):
        if not callable(member):
            raise LoadFailed(f"expected {reference} to hold functions only, got {member!r}")


def _leave_us_out(told: traceback.TracebackException | None) -> None:
    """A doctor that watches each import stands between any two modules."""
    if told is not None:
        told.stack = traceback.StackSummary.from_list(
            [frame for frame in told.stack if frame.filename != doctor.__file__]
        )
        _leave_us_out(told.__cause__)
        _leave_us_out(told.__context__)


def _theirs(frames: TracebackType | None) -> TracebackType | None:
    """Without our frame and those of the import machinery above the application's first line."""
    seen = frames
    while seen and (seen.tb_frame.f_code.co_filename.startswith("<frozen importlib") or _ours(seen)):
        seen = seen.tb_next
    return seen


def _ours(frame: TracebackType) -> bool:
    return frame.tb_frame.f_code.co_filename in (__file__, importlib.__file__, doctor.__file__)
