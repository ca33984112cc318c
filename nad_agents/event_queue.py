"""Pass events from the threads that produce them to the caller's thread.

The engine's thread and the thread that selects put events in; the caller's thread, or its event loop, takes them out.
Of snapshots only the latest is kept, so that none pile up while the caller is busy; it is compared on the caller's
side, as the engine should not wait for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass

from nad_agents.events import Compared, DecodingEvent
from nad_agents.neurons.activated_sets import similarity_matrix, unique_counts
from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.rollouts import RolloutGroup

__all__ = ["EventQueue", "Snapshot"]


@dataclass(frozen=True)
class Snapshot:
    """The candidates at the end of a chunk, taken on the engine's thread to be compared on another.

    Attributes:
        group: The candidates.
        tokens: Number of tokens that each live candidate has.
        comparison: How the candidates are compared.
    """

    group: RolloutGroup
    tokens: int
    comparison: ComparisonConfig

    def compare(self) -> Compared:
        """Return how similar the candidates are; this takes milliseconds."""
        matrix = similarity_matrix(self.group, self.comparison)
        counts = unique_counts(self.group, self.comparison)
        return Compared(self.tokens, tuple(tuple(map(float, row)) for row in matrix), tuple(map(int, counts)))


@dataclass(frozen=True)
class _SnapshotTaken:
    """Stands in the queue for the latest snapshot."""


class EventQueue:
    """A queue of events with one reader, which reads up to one end after the other."""

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[DecodingEvent | _SnapshotTaken | None] = queue.SimpleQueue()
        self._latest: deque[Snapshot] = deque(maxlen=1)
        self._wake: Callable[[], None] | None = None

    def put(self, event: DecodingEvent) -> None:
        """Add an event."""
        self._put(event)

    def put_snapshot(self, snapshot: Snapshot) -> None:
        """Add a snapshot in the place of an earlier one that was not read yet."""
        self._latest.append(snapshot)
        self._put(_SnapshotTaken())

    def end(self) -> None:
        """Mark an end, at which the reader stops reading."""
        self._put(None)

    def until_end(self) -> Iterator[DecodingEvent]:
        """Yield events as they arrive, up to the next end."""
        while (item := self._items.get()) is not None:
            if not isinstance(item, _SnapshotTaken):
                yield item
            elif (snapshot := self._take_snapshot()) is not None:
                yield snapshot.compare()

    async def auntil_end(self) -> AsyncGenerator[DecodingEvent, None]:
        """Yield events as they arrive, up to the next end, without blocking the event loop."""
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop may have closed under an abandoned caller
                loop.call_soon_threadsafe(arrived.set)

        self._wake = wake
        while True:
            arrived.clear()
            while not self._items.empty():
                item = self._items.get_nowait()
                if item is None:
                    return
                if not isinstance(item, _SnapshotTaken):
                    yield item
                elif (snapshot := self._take_snapshot()) is not None:
                    yield await asyncio.to_thread(snapshot.compare)
            await arrived.wait()

    def _put(self, item: DecodingEvent | _SnapshotTaken | None) -> None:
        self._items.put(item)
        if self._wake is not None:
            self._wake()

    def _take_snapshot(self) -> Snapshot | None:
        try:
            return self._latest.pop()
        except IndexError:
            return None
