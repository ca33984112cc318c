"""Support forked processes, which inherit the memory of their parent but none of its threads.

A lock that another thread held at the fork would stay held forever in the child, and a thread object would stand for a
thread that is gone. Nothing here takes a lock, as it runs between fork and whatever the child does next.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from types import TracebackType

__all__ = ["ForkSafeLock", "call_in_forked_child"]

_METHODS: set[weakref.WeakMethod[Callable[[], None]]] = set()


def call_in_forked_child(method: Callable[[], None]) -> None:
    """Register a bound method to be called in every forked child, before the child continues, while its object lives.

    Args:
        method: It must take no lock and start no thread.
    """
    _METHODS.add(weakref.WeakMethod(method, _METHODS.discard))


class ForkSafeLock:
    """A lock that a forked child finds free; for use in a `with` statement."""

    def __init__(self) -> None:
        self._renew()
        call_in_forked_child(self._renew)

    def __enter__(self) -> None:
        """Wait for the lock and take it."""
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the lock."""
        self._lock.release()

    def _renew(self) -> None:
        self._lock = threading.Lock()


def _call_all() -> None:
    for reference in list(_METHODS):
        method = reference()
        if method is not None:
            method()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_call_all)
