"""What a process does with memory that is free again."""

from __future__ import annotations

import ctypes
from functools import cache

_LARGEST = 32 * 2**20
"""An array of fewer bytes is cut out of what the process has; the most that glibc takes."""

_FREE = 256 * 2**20
"""Bytes at the end of its memory that a process keeps though they are free."""

_TRIM, _MMAP = -1, -3  # of malloc.h


@cache
def keep_freed() -> None:
    """Have this process keep memory that a step of a training frees: the next step asks for the same again.

    Otherwise the system clears it each time, for a tenth of a training's time, and more on the workers of Dask, which are told to
    give back whatever is free. Where the C library is not glibc nothing changes.
    """
    try:
        tell = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    tell(_MMAP, _LARGEST)
    tell(_TRIM, _FREE)
