"""Memory that a step frees is kept for the next step."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST = 2**31 - 1  # bytes; the arguments are C ints


def keep_freed_memory() -> None:
    """Have glibc keep what is freed; with another C library nothing is done. See mallopt(3).

    By itself it gives large blocks back to the system at once, and each step gets its feature maps anew, page by page.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_MMAP_THRESHOLD, _LARGEST)
    mallopt(_TRIM_THRESHOLD, _LARGEST)
