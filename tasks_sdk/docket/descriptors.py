"""The standard descriptors, for a program that was started without some of them (`2>&-`)."""

from __future__ import annotations

import os
import sys

_MODES = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def hold_standard_descriptors() -> None:
    """0, 1 and 2 are open from now on, and stay so in whatever is forked or executed: on /dev/null, where nobody gave
    us anything. To be called before anything else is opened.

    Else the next file of ours gets one of these numbers: whatever writes to its standard output writes into that, and
    event loops and children that close or replace their own do so with ours.
    """
    for descriptor, (name, mode) in enumerate(_MODES):
        if not is_open(descriptor):
            # The lowest free number, which is this one: all below it are taken by now.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, mode, errors="backslashreplace", closefd=False))


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
