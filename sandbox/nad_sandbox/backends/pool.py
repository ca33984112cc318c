"""A pool of items that take long to make and are used once, or again as long as they stay clean."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["WarmPool"]

T = TypeVar("T")


class WarmPool(Generic[T]):
    """Keeps `size` items ready, which the pool's own threads make and discard. The first use makes the first item.

    The threads live as long as the pool, since an item may depend on the thread that made it: the kernel kills a
    process that is to die with its parent when the parent's thread ends.

    Args:
        make: Function that makes an item; it may raise.
        discard: Function that destroys an item; it must not raise for an item that is already broken.
        is_usable: Function that returns whether an item that has waited in the pool can still be used.
        size: Number of items to keep ready; with 0, each item is made when it is requested.
        workers: Number of threads that make and discard items.
        goes_on: Function that returns whether an item that was given back may be used again.
    """

    def __init__(
        self,
        make: Callable[[], T],
        discard: Callable[[T], None],
        is_usable: Callable[[T], bool],
        size: int,
        workers: int = 1,
        goes_on: Callable[[T], bool] = lambda _: False,
    ) -> None:
        self._make = make
        self._discard = discard
        self._is_usable = is_usable
        self._goes_on = goes_on
        self._size = size
        self._workers = workers
        self._ready: deque[T] = deque()
        self._used: deque[T] = deque()
        self._making = 0
        self._in_use = 0
        self._made_by_takers: set[int] = set()  # ids of items that die with the thread that took them
        self._discarding = 0
        self._failed = False
        self._closed = False
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._pid = os.getpid()

    def __len__(self) -> int:
        """Return the number of items that are ready."""
        return len(self._ready)

    def take(self) -> T:
        """Return an item that nothing else uses, from the pool or newly made.

        Raises:
            Exception: Whatever `make` raises.
        """
        while True:
            with self._changed:
                item = self._ready.popleft() if self._ready else None
                self._in_use += 1
            if item is None:
                return self._make_for_taker()
            if self._is_usable(item):
                return item
            self._take_back(item, goes_on=False)

    def give_back(self, item: T) -> None:
        """Return an item to the pool if it may be used again; otherwise destroy and replace it in the background.

        The pool is refilled when a use ends and not when it begins, so that making the next item does not compete with
        the program that uses this one.
        """
        self._take_back(item, goes_on=self._goes_on(item))

    def _make_for_taker(self) -> T:
        try:
            item = self._make()
        except BaseException:
            with self._changed:
                self._in_use -= 1
            raise
        with self._changed:
            self._made_by_takers.add(id(item))
        return item

    def _take_back(self, item: T, *, goes_on: bool) -> None:
        with self._changed:
            self._in_use -= 1
            if id(item) in self._made_by_takers:
                self._made_by_takers.remove(id(item))
                goes_on = False
            if not self._closed:
                if goes_on and self._missing() > 0:
                    self._ready.appendleft(item)  # the next program takes this item, whose memory is warm
                else:
                    self._used.append(item)
                self._fill()
                return
        self._discard(item)

    def prepare(self) -> None:
        """Start filling the pool."""
        with self._changed:
            self._fill()

    def wait_idle(self) -> None:
        """Wait until the pool is full and used items are destroyed."""
        with self._changed:
            while self._has_work() and not self._closed:
                self._changed.wait()

    def close(self) -> None:
        """Destroy all items; an item that is in use is destroyed when it is given back.

        In a process forked from the one that made the pool, the items are left alone.
        """
        if self._pid != os.getpid():
            return
        with self._changed:
            self._closed = True
            threads, self._threads = self._threads, []
            self._changed.notify_all()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()
        with self._changed:
            left = [*self._used, *self._ready]
            self._used.clear()
            self._ready.clear()
        for item in left:
            self._discard(item)

    def _fill(self) -> None:
        self._failed = False
        if not self._closed and self._has_work():
            wanted = min(self._workers, self._missing() + len(self._used))
            while len(self._threads) < wanted:
                thread = threading.Thread(target=self._work, name="nad-sandbox-pool", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify_all()

    def _missing(self) -> int:
        """Return how many items remain to be made; items in use are not missing, since they may come back."""
        return 0 if self._failed else self._size - len(self._ready) - self._making - self._in_use

    def _has_work(self) -> bool:
        return self._missing() > 0 or bool(self._used) or self._making > 0 or self._discarding > 0

    def _work(self) -> None:
        """Make missing items, then destroy used ones; wait when there is nothing to do."""
        while True:
            with self._changed:
                while not self._closed and self._missing() <= 0 and not self._used:
                    self._changed.wait()
                if self._closed:
                    return
                makes = self._missing() > 0
                used = None if makes else self._used.popleft()
                self._making += makes
                self._discarding += not makes
            if makes:
                self._make_one()
            else:
                # a broken item must not end a thread that others wait for
                with contextlib.suppress(Exception):
                    self._discard(used)  # type: ignore[arg-type] # None may be an item of the caller's type
            with self._changed:
                self._making -= makes
                self._discarding -= not makes
                self._changed.notify_all()

    def _make_one(self) -> None:
        try:
            item = self._make()
        except Exception:  # noqa: BLE001 - `take` raises it again, in the thread that can report it
            with self._changed:
                self._failed = True
            return
        with self._changed:
            self._ready.append(item)
