"""Who comes next: a bounded queue before the engine, fair between clients.

A request holds a row for each candidate that it still writes: those of candidates that ended or were dropped go to who
waits, and one whose candidates are only being checked holds none. Waiting requests are let in one client after the
other, each client's own in order of arrival, so that a client with many requests does not keep the others waiting.
Whoever is next waits until enough rows have come back; nobody overtakes, so that a large request gets its turn.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from nad_server.errors import APIError

__all__ = ["Admission", "closing"]


@dataclass(eq=False)
class _Place:
    """A request that waits or runs."""

    rows: int
    admitted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Admission:
    """The queue; used from one event loop.

    Args:
        rows: rows of the engine's batch; one request alone may be larger. No more requests than this run at a time,
            those that hold no row any more included.
        max_waiting: requests that may wait.
    """

    def __init__(self, rows: int, max_waiting: int) -> None:
        self._rows = rows
        self._max_waiting = max_waiting
        self._running: set[_Place] = set()
        self._waiting: OrderedDict[str, deque[_Place]] = OrderedDict()
        self._closed = False
        self._mean_seconds = 1.0

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return sum(len(places) for places in self._waiting.values())

    @property
    def running(self) -> int:
        """Requests that were let in and have not left."""
        return len(self._running)

    @property
    def held(self) -> int:
        """Rows that the running requests hold."""
        return sum(place.rows for place in self._running)

    def close(self) -> None:
        """Let nobody in any more, and send away who waits; who is in may finish."""
        self._closed = True
        for place in [place for places in self._waiting.values() for place in places]:
            if not place.admitted.done():
                place.admitted.set_exception(closing())
        self._waiting.clear()

    @asynccontextmanager
    async def place(self, client: str, rows: int) -> AsyncIterator[Callable[[int], None]]:
        """Wait for a place and hold it.

        Yields a function that says how many rows are still needed; it belongs to the event loop.

        Args:
            client: whose request it is.
            rows: how many rows it needs.

        Raises:
            APIError: 429 at once when too many wait; 503 when the server shuts down.
        """
        self.check()
        place = _Place(rows)
        self._waiting.setdefault(client, deque()).append(place)
        self._let_in()
        try:
            await place.admitted
            started = time.monotonic()
            yield partial(self._keep, place)
            self._mean_seconds += 0.2 * (time.monotonic() - started - self._mean_seconds)
        finally:
            self._leave(client, place)

    def check(self) -> None:
        """Whether one more may come.

        Raises:
            APIError: 429 when too many wait; 503 when the server shuts down.
        """
        if self._closed:
            raise closing()
        if self.waiting >= self._max_waiting:
            seconds = math.ceil(self._mean_seconds * (self.waiting + 1) / max(1, self.running))
            message = f"{self.waiting} requests are waiting already, and no more may; try again later"
            headers = {"Retry-After": str(min(60, max(1, seconds)))}
            raise APIError(429, message, code="queue_full", headers=headers)

    def _let_in(self) -> None:
        while self._waiting:
            client, places = next(iter(self._waiting.items()))
            if len(self._running) >= self._rows or (self.held and self.held + places[0].rows > self._rows):
                return
            place = places.popleft()
            # the client goes to the end of the line
            self._waiting.pop(client)
            if places:
                self._waiting[client] = places
            if place.admitted.done():  # its caller has just gone away
                continue
            self._running.add(place)
            place.admitted.set_result(None)

    def _keep(self, place: _Place, rows: int) -> None:
        """Give back the other rows of a place; one that was left has none to give."""
        if place in self._running and rows < place.rows:
            place.rows = rows
            self._let_in()

    def _leave(self, client: str, place: _Place) -> None:
        if place in self._running:
            self._running.remove(place)
        elif client in self._waiting and place in self._waiting[client]:
            self._waiting[client].remove(place)
            if not self._waiting[client]:
                del self._waiting[client]
        if not self._closed:
            self._let_in()


def closing() -> APIError:
    """What requests are told when the server shuts down."""
    message = "the server is shutting down; ask another one, or again later"
    return APIError(503, message, code="server_shutting_down", headers={"Retry-After": "5"})
