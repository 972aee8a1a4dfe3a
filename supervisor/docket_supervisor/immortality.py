"""What a template has loaded is made immortal: nobody counts references to it any more.

To look at an object is to write to it: its reference count goes up, and the page on which it lies is copied for the
process that looked. Since CPython 3.12 there are objects whose count is left alone (PEP 683: None, small numbers, …).
What a template has loaded stays for as long as its workers do, so all of it may be like that.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import sysconfig
from collections.abc import Iterable
from types import CodeType, FunctionType

_TRIED = ((3, 12), (3, 13))
_IMMORTAL = 0xFFFFFFFF
"""The lower half of the count of what is not counted."""


def is_possible() -> bool:
    """CPython with immortal objects whose counts look as we know them, and with the interpreter lock."""
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return False
    if sys.version_info[:2] not in _TRIED or sys.byteorder != "little" or object.__basicsize__ != 16:
        return False
    return _count_of(None) == _IMMORTAL


def immortalise() -> int:
    """Everything that can be reached now is never freed and never counted again; says how many objects, 0: none.

    For a process that lives on only by being forked. What is loaded later is as mortal as ever.
    """
    if not is_possible():
        return 0
    tracked = gc.get_objects()
    everybody = set(map(id, tracked))
    # Code, numbers and texts are not the collector's, and code does not tell it what it holds.
    held = gc.get_referents(*tracked)
    everybody.update(map(id, held))
    everybody |= _in_code(each.__code__ for each in tracked if type(each) is FunctionType)
    # The whole address space as words; memory that is named one by one would take ten times as long.
    counts = memoryview((ctypes.c_uint32 * 2**45).from_address(0)).cast("B").cast("I")
    for each in everybody:
        counts[each >> 2] = _IMMORTAL
    # These lived until here: what had been freed meanwhile would have been written into as well.
    del tracked, held
    return len(everybody)


def _in_code(codes: Iterable[CodeType]) -> set[int]:
    """What code refers to while it runs, and the code in it."""
    found: set[int] = set()
    todo: list[CodeType] = list(codes)
    while todo:
        code = todo.pop()
        constants = code.co_consts
        found.update(map(id, constants), map(id, (constants, code.co_name, code.co_qualname)))
        todo += [each for each in constants if type(each) is CodeType]
    return found


def _count_of(thing: object) -> int:
    return ctypes.c_uint32.from_address(id(thing)).value
