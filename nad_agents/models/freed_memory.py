"""Give memory that was freed back to the operating system; glibc keeps what lies between blocks that are in use."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache

__all__ = ["return_freed_memory"]


def return_freed_memory() -> None:
    """Give the process's freed memory back to the operating system, where the C library can do that."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """Return glibc's ``malloc_trim``; None where the C library is another."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
