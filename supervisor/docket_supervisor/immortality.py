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
from collections import deque
from collections.abc import Iterable
from itertools import repeat
from types import CodeType

_TRIED = ((3, 12), (3, 13))
_COUNT_BYTES = 4
"""The half of a reference count that says whether an object is immortal."""
_IMMORTAL = 0xFFFFFFFF


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
    everybody |= _in_code(each for each in held if type(each) is CodeType)
    # `tracked` and `held` live until here: what had been freed meanwhile would be written into as well.
    deque(map(ctypes.memset, everybody, repeat(0xFF), repeat(_COUNT_BYTES)), maxlen=0)
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
