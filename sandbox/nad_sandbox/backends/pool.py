"""A small stock of things that take long to make and are used once."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["OneShotPool"]

T = TypeVar("T")


class OneShotPool(Generic[T]):
    """Keeps `size` items ready; a thread of its own makes and discards them. Nothing is made before the first use.

    Args:
        make: makes an item; may raise.
        discard: destroys an item; must not raise for one that is broken already.
        is_usable: whether an item that has waited can still be used.
        size: items to keep ready; 0: each is made when it is asked for.
    """

    def __init__(
        self,
        make: Callable[[], T],
        discard: Callable[[T], None],
        is_usable: Callable[[T], bool],
        size: int,
    ) -> None:
        self._make = make
        self._discard = discard
        self._is_usable = is_usable
        self._size = size
        self._ready: deque[T] = deque()
        self._used: deque[T] = deque()
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        """How many items are ready."""
        return len(self._ready)

    def take(self) -> T:
        """An item that nobody else has, from the stock or made now.

        Raises:
            Exception: what `make` raises.
        """
        while True:
            with self._changed:
                item = self._ready.popleft() if self._ready else None
            if item is None:
                return self._make()
            if self._is_usable(item):
                return item
            self.give_back(item)

    def give_back(self, item: T) -> None:
        """Have a used item destroyed, and the stock filled up, both in the background.

        The stock is filled when a use ends and not when it begins, so that making the next item does not compete
        with the program that uses this one.
        """
        with self._changed:
            if not self._closed:
                self._used.append(item)
                self._fill()
                return
        self._discard(item)

    def prepare(self) -> None:
        """Start filling the stock."""
        with self._changed:
            self._fill()

    def wait_idle(self) -> None:
        """Wait until the stock is full and used items are gone."""
        with self._changed:
            while self._thread is not None and not self._closed:
                self._changed.wait()

    def close(self) -> None:
        """Destroy all items; what is taken is destroyed when it is given back."""
        with self._changed:
            self._closed = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        with self._changed:
            left = [*self._used, *self._ready]
            self._used.clear()
            self._ready.clear()
        for item in left:
            self._discard(item)

    def _fill(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._work, name="nad-sandbox-pool", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        """Make what is missing, then destroy what is used; end when there is nothing to do."""
        failed = False
        while True:
            with self._changed:
                enough = failed or len(self._ready) >= self._size
                used = self._used.popleft() if self._used and enough and not self._closed else None
                if self._closed or (enough and used is None):
                    self._thread = None
                    self._changed.notify_all()
                    return
            if used is not None:
                # a broken item must not end the thread for which others wait
                with contextlib.suppress(Exception):
                    self._discard(used)
                continue
            try:
                item = self._make()
            except Exception:  # noqa: BLE001 - `take` meets it again, in the thread that can report it
                failed = True
                continue
            with self._changed:
                self._ready.append(item)
