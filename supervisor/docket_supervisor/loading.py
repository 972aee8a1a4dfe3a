"""The task modules are imported, or it is said in full why they could not be."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from inspect import isawaitable
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


def find_setup(reference: str | None) -> Callable[[], object] | None:
    """The function of `--worker-setup`, to be found after `load`; LoadFailed if it is none."""
    if reference is None:
        return None
    found = find(reference, "on sys.path")
    if not callable(found):
        raise LoadFailed(f"expected {reference} to be a function, got {type(found).__name__}")
    return found


def set_up(reference: str | None) -> None:
    """What the application wants to be done in each worker has been done; LoadFailed if that could not be."""
    setup = find_setup(reference)
    if setup is None:
        return
    try:
        result = setup()
    except BaseException as error:
        raise LoadFailed(f"{reference} failed:\n{_told(error)}") from None
    if isawaitable(result):
        raise LoadFailed(f"expected {reference} to be a plain function: there is no event loop yet")


def _load(reference: str, folder: str) -> None:
    collection = find(reference, f"from {folder}")
    if not isinstance(collection, Iterable) or isinstance(collection, str):
        raise LoadFailed(f"expected {reference} to be a list of functions, got {type(collection).__name__}")
    for member in cast("Iterable[object]", collection):
        if not callable(member):
            raise LoadFailed(f"expected {reference} to hold functions only, got {member!r}")


def find(reference: str, where: str) -> object:
    name, _, attribute = reference.partition(":")
    try:
        module: object = importlib.import_module(name)
    except BaseException as error:
        raise LoadFailed(f"could not import {name} (for {reference}, {where}):\n{_told(error)}") from None
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        raise LoadFailed(f"could not find {reference}: {error}") from None


def _told(error: BaseException) -> str:
    told = traceback.TracebackException(type(error), error, _theirs(error.__traceback__))
    _leave_us_out(told)
    return "".join(told.format())[-_LONGEST:]


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
