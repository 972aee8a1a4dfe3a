"""The holes in this process's memory are filled, so that what its children allocate lies close together.

An allocator puts what is new where there is room, which after an import is everywhere. In a child each of these places
is on a page that it shared until then: a new object of fifty bytes costs four thousand.
"""

from __future__ import annotations

import ctypes
import sys
import sysconfig
from collections.abc import Callable
from functools import partial

_POOL = 16384
_POOL_HEADER = 48
_CLASSES = range(16, 513, 16)
"""Sizes of blocks that Python allocates by itself, from pools; each pool has blocks of one size."""
_CERTAIN = 8
"""Blocks in a row: for the first of a pool may be a hole as well."""
_MOST = 2 * 2**20
"""Bytes with which the holes of one size are filled at the most."""
_BYTES_HEADER = bytes.__basicsize__

_LARGEST_HOLE, _SMALLEST_HOLE = 65536, 24


def fill_holes() -> int:
    """Says how many bytes that took. They lie where there was memory already, and stay taken."""
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return 0
    return _fill_heap() + _fill_pools()


def _fill_pools() -> int:
    filled = 0
    for size in _CLASSES:
        make, before = _maker(size), filled
        last, in_a_row = 0, 0
        while filled - before < _MOST and in_a_row < _CERTAIN:
            block = make()
            _KEPT.append(block)
            filled += size
            # One behind the other from the first block on: a new pool, so there was no hole left in those before it.
            # Not side by side: what is counted with here is allocated, too.
            if in_a_row and last < id(block) <= last + 4 * size:
                in_a_row += 1
            else:
                in_a_row = int(id(block) % _POOL == _POOL_HEADER)
            last = id(block)
    return filled


def _maker(size: int) -> Callable[[], object]:
    """Makes objects without any others in them, which take up one block of this size."""
    if size == 16:
        return object
    if size == 32:
        return partial(float, "1.5")
    return partial(bytes, size - _BYTES_HEADER)


def _fill_heap() -> int:
    """What is larger comes from the C library; a hole is whatever lies below the block that it made room for last."""
    if sys.platform != "linux":
        return 0
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return 0
    allocate, free = library.malloc, library.free
    allocate.restype, allocate.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    free.restype, free.argtypes = None, [ctypes.c_void_p]
    highest = allocate(_LARGEST_HOLE + 16) or 0
    free(highest)
    size, filled = _LARGEST_HOLE, 0
    while size >= _SMALLEST_HOLE:
        before = filled
        while filled - before < _MOST:
            block = allocate(size) or 0
            if not block or block >= highest:
                highest = max(highest, block)
                free(block)
                break
            filled += size
        size = size - 16 if size <= 2048 else size * 7 // 8
    return filled


_KEPT: list[object] = []
"""For as long as the process lives, and those that are forked from it."""
