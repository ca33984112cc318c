"""The bounded queue before the engine, fair between clients.

A request holds one row of the batch for each of its candidates that still generates. Rows of candidates that ended or
were pruned go to requests that wait, and a request whose candidates are only being checked holds no row. Waiting
requests are admitted one client after the other, and each client's own in order of arrival, so that a client with
many requests does not keep the others waiting. The next request waits until enough rows are free; none overtakes it,
so that a large request is admitted as well.
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

from nad_server.errors import APIError, shutting_down

__all__ = ["Admission"]


@dataclass(eq=False)
class _Place:
    """A request that waits or runs.

    Attributes:
        rows: The rows that it holds, or needs while it waits.
        admitted: Done when it is admitted.
    """

    rows: int
    admitted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def can_be_told(self) -> bool:
        """Whether its caller still waits; a loop that was closed without cancelling its tasks tells them nothing."""
        return not self.admitted.done() and not self.admitted.get_loop().is_closed()


class Admission:
    """The queue; it belongs to one event loop.

    Args:
        rows: Rows of the engine's batch; a request that runs alone may be larger. It also limits how many requests
            run at a time, those included that hold no row any more.
        max_waiting: Number of requests that may wait.
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
        """Number of requests that wait."""
        return sum(len(places) for places in self._waiting.values())

    @property
    def running(self) -> int:
        """Number of requests that were admitted and have not ended."""
        return len(self._running)

    @property
    def held(self) -> int:
        """Number of rows that the running requests hold."""
        return sum(place.rows for place in self._running)

    def close(self) -> None:
        """Stop admitting requests: reject those that wait and let the running ones finish."""
        self._closed = True
        for place in [place for places in self._waiting.values() for place in places]:
            if place.can_be_told:
                place.admitted.set_exception(shutting_down())
        self._waiting.clear()

    @asynccontextmanager
    async def place(self, client: str, rows: int) -> AsyncIterator[Callable[[int], None]]:
        """Wait until a request is admitted, and hold its rows.

        Yields a function that takes the number of rows that the request still needs and frees the others. It has to
        be called on the event loop.

        Args:
            client: The client that sent the request.
            rows: The number of rows that the request needs.

        Raises:
            APIError: 429 at once when too many requests wait; 503 when the server shuts down.
        """
        self.check()
        place = _Place(rows)
        self._waiting.setdefault(client, deque()).append(place)
        self._admit()
        try:
            await place.admitted
            started = time.monotonic()
            yield partial(self._keep_rows, place)
            self._mean_seconds += 0.2 * (time.monotonic() - started - self._mean_seconds)
        finally:
            self._leave(client, place)

    def check(self) -> None:
        """Check that one more request may wait.

        Raises:
            APIError: 429 when too many requests wait; 503 when the server shuts down.
        """
        if self._closed:
            raise shutting_down()
        if self.waiting >= self._max_waiting:
            seconds = math.ceil(self._mean_seconds * (self.waiting + 1) / max(1, self.running))
            message = f"{self.waiting} requests are waiting already, and no more may; try again later"
            headers = {"Retry-After": str(min(60, max(1, seconds)))}
            raise APIError(429, message, code="queue_full", headers=headers)

    def _admit(self) -> None:
        """Admit waiting requests as long as the next one fits into the batch."""
        while self._waiting:
            client, places = next(iter(self._waiting.items()))
            if len(self._running) >= self._rows or (self.held and self.held + places[0].rows > self._rows):
                return
            place = places.popleft()
            # the client goes to the end of the line
            self._waiting.pop(client)
            if places:
                self._waiting[client] = places
            if not place.can_be_told:  # its caller has just left
                continue
            self._running.add(place)
            place.admitted.set_result(None)

    def _keep_rows(self, place: _Place, rows: int) -> None:
        """Free all but `rows` rows of a request; a request that has ended holds none."""
        if place in self._running and rows < place.rows:
            place.rows = rows
            self._admit()

    def _leave(self, client: str, place: _Place) -> None:
        if place in self._running:
            self._running.remove(place)
        elif client in self._waiting and place in self._waiting[client]:
            self._waiting[client].remove(place)
            if not self._waiting[client]:
                del self._waiting[client]
        if not self._closed:
            self._admit()
